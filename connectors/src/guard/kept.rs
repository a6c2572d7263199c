//! Answers that may be given again for a short while. They are sealed, so that a part of the memory alone, freed or swapped out,
//! is no data; the key lies in the same process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use tokio::time::Instant;
use unefois_consent::{AttributeId, Outcome};
use zeroize::Zeroizing;

use crate::SourceAnswer;
use crate::flight::Key;

/// Most bytes that are kept; more answers are not.
const MAX_BYTES: usize = 32 << 20;
/// What an answer takes beside its own bytes, at most.
const ENTRY_BYTES: usize = 160;
/// How often those that are over are looked for, where there are questions.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The answers of one connector.
pub(super) struct Kept {
    keep: Duration,
    /// Of this process alone; none where nothing is kept.
    seal: Option<LessSafeKey>,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    by_key: HashMap<Key, Entry>,
    bytes: usize,
    swept: Option<Instant>,
}

impl Answers {
    /// Throws away what is over.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.by_key.retain(|_, entry| now < entry.until);
        self.bytes = self.by_key.values().map(Entry::bytes).sum();
    }
}

struct Entry {
    answered: Instant,
    until: Instant,
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.sealed.len() + ENTRY_BYTES
    }
}

impl Kept {
    /// Keeps answers for at most `keep`; zero keeps none.
    pub(super) fn new(keep: Duration) -> Self {
        let seal = if keep.is_zero() { None } else { new_seal() };
        Self { keep, seal, answers: Mutex::default() }
    }

    pub(super) fn keeps(&self) -> bool {
        self.seal.is_some()
    }

    /// The answer, with its age.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<SourceAnswer> {
        let seal = self.seal.as_ref()?;
        let (mut sealed, nonce, answered) = {
            let mut answers = self.locked();
            answers.sweep(now);
            let entry = answers.by_key.get(key).filter(|entry| now < entry.until)?;
            (Zeroizing::new(entry.sealed.clone()), entry.nonce, entry.answered)
        };
        let opened = seal.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(key), &mut sealed).ok()?;
        let (outcomes, reference): (Vec<(AttributeId, Value)>, _) = serde_json::from_slice(opened).ok()?;
        let outcomes = outcomes.into_iter().map(|(attribute, value)| (attribute, Outcome::Found(value))).collect();
        Some(SourceAnswer { age: now.saturating_duration_since(answered), ..SourceAnswer::of(outcomes, reference) })
    }

    #[cfg(test)]
    pub(super) fn shows(&self, text: &[u8]) -> bool {
        let answers = self.locked();
        answers.by_key.values().any(|entry| entry.sealed.windows(text.len()).any(|window| window == text))
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.locked().by_key.len()
    }

    /// Keeps an answer in which everything was found, as long as its source lets it be kept.
    pub(super) fn put(&self, key: Key, answer: &SourceAnswer, now: Instant) {
        let Some(seal) = &self.seal else { return };
        let keep = answer.may_keep.map_or(self.keep, |allowed| allowed.min(self.keep));
        let values: Option<Vec<_>> = answer.outcomes.iter().map(found).collect();
        let (Some(values), false) = (values, keep.is_zero() || answer.receipt.is_some()) else { return };
        let Ok(mut sealed) = serde_json::to_vec(&(values, &answer.reference)).map(Zeroizing::new) else { return };
        let mut nonce = [0; NONCE_LEN];
        let is_sealed = SystemRandom::new().fill(&mut nonce).is_ok()
            && seal
                .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&key), &mut *sealed)
                .is_ok();
        if !is_sealed {
            return;
        }
        let entry = Entry { answered: now, until: now + keep, nonce, sealed: std::mem::take(&mut *sealed) };
        let mut answers = self.locked();
        answers.sweep(now);
        if answers.bytes + entry.bytes() <= MAX_BYTES {
            answers.bytes += entry.bytes();
            let before = answers.by_key.insert(key, entry);
            answers.bytes -= before.map_or(0, |before| before.bytes());
        }
    }

    /// Keeps nothing of what was answered so far.
    pub(super) fn clear(&self) {
        if self.keeps() {
            *self.locked() = Answers::default();
        }
    }

    fn locked(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_seal() -> Option<LessSafeKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *bytes).ok()?;
    UnboundKey::new(&AES_256_GCM, &*bytes).ok().map(LessSafeKey::new)
}

fn found((attribute, outcome): &(AttributeId, Outcome)) -> Option<(&AttributeId, &Value)> {
    match outcome {
        Outcome::Found(value) => Some((attribute, value)),
        Outcome::Missing(_) => None,
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("keep", &self.keep).finish_non_exhaustive()
    }
}
