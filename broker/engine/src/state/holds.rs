//! What a proven person holds back: the pauses, withdrawals and refusals that no administration passes by asking again.
//!
//! A hold stands until whoever may undo it resumes the consent, or gives again all that it was about, for as long as the record of
//! that is kept. Its row goes with the record of the consent. Later decisions of an administration on the same consent leave it
//! as it is.

use serde::{Deserialize, Serialize};
use unefois_consent::event::{ConsentDecided, Decision};
use unefois_consent::{Consent, DecidedBy, RecordPeriod, Siret, SubjectRef};

use super::stamp::PurgedPeriods;
use super::{Stamp, State, decode, encode, keys, malformed};
use crate::rows::Key;
use crate::store::StoreError;

/// Holds that are read at once. A person makes few.
const PAGE: usize = 64;

/// That a consent is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    /// On whose word.
    by: DecidedBy,
    /// Index of the entry by which all that it was about was given again, and the period of its record: it counts as long as
    /// that is kept.
    given_again: Option<(u64, RecordPeriod)>,
}

/// What stands in the way of a consent that somebody gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HeldBack {
    /// Something does.
    pub(crate) is_held: bool,
    /// The entries without which it would.
    pub(crate) given_again: Vec<u64>,
}

impl State {
    /// What of the person's decisions stands in the way of `consent`, given on the word of `by`.
    pub(crate) fn held_back(&self, consent: &Consent, by: DecidedBy) -> Result<HeldBack, StoreError> {
        let mut found = HeldBack::default();
        for (_, _, held, hold) in self.holds(consent.subject, consent.consumer)? {
            // What becomes of this consent follows from its own status.
            if held.id == consent.id || hold.by.yields_to(by) || !held.is_asked_again_by(consent) {
                continue;
            }
            match hold.given_again.filter(|(_, period)| !self.purged.contains(*period)) {
                None => found.is_held = true,
                Some((index, _)) => found.given_again.push(index),
            }
        }
        found.given_again.sort_unstable();
        found.given_again.dedup();
        Ok(found)
    }

    /// `consent` was given or renewed on the word of `by`, by the entry of `given`.
    pub(super) fn lift_holds(&mut self, given: Stamp, consent: &Consent, by: DecidedBy) -> Result<(), StoreError> {
        if !by.is_proven() {
            return Ok(());
        }
        for (key, stamp, held, hold) in self.holds(consent.subject, consent.consumer)? {
            if !hold.by.yields_to(by) {
                continue;
            }
            if held.id == consent.id {
                self.rows.remove(key);
            } else if held.is_all_within(consent) {
                let given_again = Some((given.from, given.period));
                self.rows.put(key, stamp.row(&encode(&Hold { given_again, ..hold })?));
            }
        }
        Ok(())
    }

    /// `decided` changed `consent`, whose row is of `stamp`.
    pub(super) fn change_hold(
        &mut self,
        stamp: Stamp,
        consent: &Consent,
        (decision, decided): (Decision, &ConsentDecided),
    ) -> Result<(), StoreError> {
        let (key, by) = (keys::hold(consent), decided.decided_by());
        match decision {
            Decision::Refuse | Decision::Pause | Decision::Withdraw if by.is_proven() => {
                let before = self.hold(&key)?.map(|(_, hold)| hold.by);
                let by = before.filter(|before| !before.yields_to(by)).unwrap_or(by);
                self.met.add(&keys::held(consent.subject, consent.consumer));
                self.rows.put(key, stamp.row(&encode(&Hold { by, given_again: None })?));
            }
            Decision::Resume if self.may_hold(consent.subject, consent.consumer) => self.rows.remove(key),
            Decision::Refuse
            | Decision::Pause
            | Decision::Resume
            | Decision::Withdraw
            | Decision::Revoke
            | Decision::Invalidate => {}
        }
        Ok(())
    }

    /// `false`: the person holds nothing back from this administration.
    fn may_hold(&self, subject: SubjectRef, consumer: Siret) -> bool {
        self.met.may_have(&keys::held(subject, consumer))
    }

    fn hold(&self, key: &[u8]) -> Result<Option<(Stamp, Hold)>, StoreError> {
        self.live(key)?.map(|(stamp, row)| Ok((stamp, decode(&row)?))).transpose()
    }

    /// The holds of a person towards an administration, with the consents that they are of.
    fn holds(&self, subject: SubjectRef, consumer: Siret) -> Result<Vec<(Key, Stamp, Consent, Hold)>, StoreError> {
        let mut holds = Vec::new();
        if !self.may_hold(subject, consumer) {
            return Ok(holds);
        }
        let (prefix, mut after) = (keys::holds(subject, consumer), None::<Vec<u8>>);
        loop {
            let page = self.rows.scan(&prefix, after.as_deref(), PAGE)?;
            let was_full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, row) in page {
                let (stamp, value) = Stamp::split(&row)?;
                if self.purged.contains(stamp.period) {
                    continue;
                }
                let id = keys::consent_at(&key).ok_or_else(|| malformed("a hold"))?;
                if let Some(consent) = self.consent(id)? {
                    holds.push((key.into(), stamp, consent, decode(value)?));
                }
            }
            if !was_full {
                return Ok(holds);
            }
        }
    }
}

/// A row of a hold as [`super::live_rows`] lists it: without what does not count any more.
pub(super) fn plain_hold(row: &[u8], purged: &PurgedPeriods) -> Result<Vec<u8>, StoreError> {
    let (stamp, value) = Stamp::split(row)?;
    let mut hold: Hold = decode(value)?;
    hold.given_again = hold.given_again.filter(|(_, period)| !purged.contains(*period));
    Ok(stamp.row(&encode(&hold)?))
}
