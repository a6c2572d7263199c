//! Sealing of records: AES-256-GCM under the key of the entry's month and of the record's retention.
//!
//! Plaintext: salt of the record (32 bytes) ‖ salt of the links (32) ‖ number of links (1) ‖ links (64 each) ‖ record.
//! Additional data: index (8 bytes, big-endian) ‖ leaf (42) ‖ retention in months (1) ‖ its salt (32), so that a sealed record
//! can neither be moved to another entry nor kept for another time. Stored: nonce (12 bytes, random) ‖ ciphertext ‖ tag (16).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use unefois_audit::{Hash, Leaf, Link, Salt, links_part, record_part};
use unefois_consent::{Digest, Event, RecordPeriod, Retention, Timestamp};

use crate::store::{Opening, RecordKeys, SealedEntry, SecretKey, StoreError};

/// A record that was unsealed and found to be what its leaf commits to.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenRecord {
    /// The salt of its part of the commitment.
    pub salt: Salt,
    /// The exact text that the leaf commits to.
    pub record: String,
}

impl std::fmt::Debug for OpenRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[record]")
    }
}

/// What is sealed, with the salts of the parts.
#[derive(Clone, Copy)]
pub struct Plain<'a> {
    /// Hides the record.
    pub record_salt: Salt,
    /// Hides how long it is kept.
    pub retention_salt: Salt,
    /// Hides the links.
    pub links_salt: Salt,
    /// The place of the entry among those about each person; 255 at most.
    pub links: &'a [Link],
    /// The text of the record.
    pub record: &'a str,
}

impl std::fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[record]")
    }
}

impl Plain<'_> {
    /// What stays open of a record that is kept for `retention`.
    pub fn opening(&self, retention: Retention) -> Opening {
        Opening {
            retention,
            retention_salt: self.retention_salt,
            record: record_part(&self.record_salt, self.record.as_bytes()),
            links: links_of(&self.links_salt, self.links),
        }
    }

    fn len(&self) -> usize {
        2 * 32 + 1 + self.links.len() * Link::LEN + self.record.len()
    }
}

fn links_of(salt: &Salt, links: &[Link]) -> Hash {
    links_part(salt, &links.iter().map(Link::hash).collect::<Vec<_>>())
}

fn cipher(key: &SecretKey) -> Result<LessSafeKey, StoreError> {
    let unbound = UnboundKey::new(&AES_256_GCM, key.expose());
    unbound.map(LessSafeKey::new).map_err(|_| StoreError::Corrupt("a record key is not of 32 bytes".to_owned()))
}

fn additional_data(index: u64, leaf: &Leaf, opening: &Opening) -> [u8; 8 + Leaf::LEN + 1 + 32] {
    let mut data = [0; 8 + Leaf::LEN + 1 + 32];
    let (head, rest) = data.split_at_mut(8);
    let (middle, rest) = rest.split_at_mut(Leaf::LEN);
    let (months, salt) = rest.split_at_mut(1);
    head.copy_from_slice(&index.to_be_bytes());
    middle.copy_from_slice(&leaf.encode());
    months.copy_from_slice(&[opening.retention.months()]);
    salt.copy_from_slice(&opening.retention_salt.0);
    data
}

/// Seals one record under `key`, which must be that of its period. `nonce` must be random: one that is used twice under a key gives
/// both records away.
///
/// # Errors
/// [`StoreError::NotWritten`] where there are more than 255 links.
pub fn seal_record(
    key: &SecretKey,
    (index, leaf, opening): (u64, &Leaf, &Opening),
    plain: &Plain<'_>,
    nonce: [u8; NONCE_LEN],
) -> Result<Vec<u8>, StoreError> {
    seal_with(&cipher(key)?, (index, leaf, opening), plain, nonce)
}

fn seal_with(
    cipher: &LessSafeKey,
    (index, leaf, opening): (u64, &Leaf, &Opening),
    plain: &Plain<'_>,
    nonce: [u8; NONCE_LEN],
) -> Result<Vec<u8>, StoreError> {
    let failed = || StoreError::NotWritten("a record could not be sealed".to_owned());
    let links = u8::try_from(plain.links.len()).map_err(|_| failed())?;
    let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&plain.record_salt.0);
    sealed.extend_from_slice(&plain.links_salt.0);
    sealed.push(links);
    plain.links.iter().for_each(|link| sealed.extend_from_slice(&link.encode()));
    sealed.extend_from_slice(plain.record.as_bytes());
    let aad = Aad::from(additional_data(index, leaf, opening));
    let to_seal = sealed.get_mut(NONCE_LEN..).ok_or_else(failed)?;
    let tag =
        cipher.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, to_seal).map_err(|_| failed())?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Whether a period has a key already, as the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyState {
    /// An entry says that it was made; one that is gone is never made again.
    Made,
    /// No entry says so: it is made where it does not exist.
    New,
}

/// Seals the records of one writer; keeps the current month's ciphers at hand.
pub(crate) struct Sealer {
    keys: Arc<dyn RecordKeys>,
    current: Vec<(RecordPeriod, LessSafeKey, Digest)>,
}

impl Sealer {
    pub(crate) fn new(keys: Arc<dyn RecordKeys>) -> Self {
        Self { keys, current: Vec::new() }
    }

    /// Makes sure that the key of `period` exists and is durable; gives what the log knows it by. That can fail for want of a
    /// disk, so for most records it is done before anything is decided.
    pub(crate) fn prepare(&mut self, period: RecordPeriod, state: KeyState) -> Result<Digest, StoreError> {
        self.cipher(period, state).map(|(_, check)| *check)
    }

    fn cipher(&mut self, period: RecordPeriod, state: KeyState) -> Result<(&LessSafeKey, &Digest), StoreError> {
        let at = match self.current.iter().position(|(known, ..)| *known == period) {
            Some(at) => at,
            None => {
                let key = match state {
                    KeyState::New => self.keys.get_or_create(period)?,
                    KeyState::Made => self.keys.get(period)?.ok_or_else(|| {
                        StoreError::Corrupt(format!(
                            "the key of the records of {period} is missing; put keys/records/ back from the backup"
                        ))
                    })?,
                };
                self.current.retain(|(known, ..)| known.month == period.month);
                self.current.push((period, cipher(&key)?, key.check()));
                self.current.len() - 1
            }
        };
        let found = self.current.get(at).map(|(_, cipher, check)| (cipher, check));
        found.ok_or_else(|| StoreError::NotWritten("no record key is at hand".to_owned()))
    }

    /// Seals one record under the key of its period, which must be at hand.
    pub(crate) fn seal(
        &mut self,
        (index, leaf, opening): (u64, &Leaf, &Opening),
        plain: &Plain<'_>,
        nonce: [u8; NONCE_LEN],
    ) -> Result<Vec<u8>, StoreError> {
        let period = RecordPeriod::new(Timestamp::from_millis(leaf.time_ms), opening.retention);
        let (cipher, _) = self.cipher(period, KeyState::Made)?;
        seal_with(cipher, (index, leaf, opening), plain, nonce)
    }
}

/// Opens sealed records; keeps the ciphers of the periods it has met.
#[derive(Debug)]
pub struct Opener {
    keys: Arc<dyn RecordKeys>,
    ciphers: RwLock<BTreeMap<RecordPeriod, Arc<LessSafeKey>>>,
}

impl Opener {
    /// Opens with `keys`.
    pub fn new(keys: Arc<dyn RecordKeys>) -> Self {
        Self { keys, ciphers: RwLock::new(BTreeMap::new()) }
    }

    /// The keys that it opens with.
    pub(crate) fn keys(&self) -> &dyn RecordKeys {
        &*self.keys
    }

    /// The record of entry `index`, or `None` where its key was destroyed. A record that does not open, or that
    /// its leaf does not commit to, is `Corrupt`.
    pub fn open(&self, index: u64, entry: &SealedEntry) -> Result<Option<OpenRecord>, StoreError> {
        self.read(index, entry, |salt, record| Ok(OpenRecord { salt, record: record.to_owned() }))
    }

    /// Gives the salt and the text of such a record to `read`. Where the key was destroyed, that its leaf commits to how long
    /// it was kept is checked all the same.
    pub(crate) fn read<T>(
        &self,
        index: u64,
        entry: &SealedEntry,
        read: impl FnOnce(Salt, &str) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        entry.check_opening(index)?;
        let Some(cipher) = self.cipher(entry.period())? else { return Ok(None) };
        let damaged = || {
            StoreError::Corrupt(format!("the record of entry {index} does not open or is not what its leaf commits to"))
        };
        let (nonce, sealed) = entry.sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut plain = sealed.to_vec();
        let aad = Aad::from(additional_data(index, &entry.leaf, &entry.opening));
        let plain =
            cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut plain).map_err(|_| damaged())?;
        let (salt, rest) = plain.split_first_chunk::<32>().ok_or_else(damaged)?;
        let (links_salt, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
        let ([count], rest) = rest.split_first_chunk::<1>().ok_or_else(damaged)?;
        let (links, record) = rest.split_at_checked(usize::from(*count) * Link::LEN).ok_or_else(damaged)?;
        let links: Option<Vec<_>> = links.as_chunks().0.iter().map(Link::decode).collect();
        let salt = Salt(*salt);
        let is_committed = record_part(&salt, record) == entry.opening.record
            && links_of(&Salt(*links_salt), &links.ok_or_else(damaged)?) == entry.opening.links;
        if !is_committed {
            return Err(damaged());
        }
        let record = std::str::from_utf8(record).map_err(|_| damaged())?;
        read(salt, record).map(Some)
    }

    /// What the record of entry `index` says, or `None` where its key was destroyed. One that does not open or parse is
    /// `Corrupt`, one of a kind that this code does not know `Newer`.
    pub(crate) fn event(&self, index: u64, entry: &SealedEntry) -> Result<Option<Event>, StoreError> {
        if !Event::is_known(entry.leaf.kind) {
            return Err(StoreError::Newer(format!("entry {index} is of the kind {}", entry.leaf.kind)));
        }
        self.read(index, entry, |_, record| {
            serde_json::from_str(record)
                .map_err(|error| StoreError::Corrupt(format!("the record of entry {index} does not parse: {error}")))
        })
    }

    /// Forgets the cipher of a period whose key was destroyed.
    pub(crate) fn forget(&self, period: RecordPeriod) {
        self.ciphers.write().unwrap_or_else(PoisonError::into_inner).remove(&period);
    }

    fn cipher(&self, period: RecordPeriod) -> Result<Option<Arc<LessSafeKey>>, StoreError> {
        if let Some(known) = self.ciphers.read().unwrap_or_else(PoisonError::into_inner).get(&period) {
            return Ok(Some(Arc::clone(known)));
        }
        // ORDER: looked up and kept under one lock, or a key that is destroyed meanwhile would be kept after it was forgotten.
        let mut ciphers = self.ciphers.write().unwrap_or_else(PoisonError::into_inner);
        let found = self.keys.get(period)?.map(|key| cipher(&key)).transpose()?.map(Arc::new);
        // A period without a key may get one later, so only what was found is kept.
        if let Some(cipher) = &found {
            ciphers.insert(period, Arc::clone(cipher));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unefois_audit::Hash;

    fn plain(record: &str) -> Plain<'_> {
        let [record_salt, retention_salt, links_salt] = [7, 8, 9].map(|byte| Salt([byte; 32]));
        Plain { record_salt, retention_salt, links_salt, links: &[], record }
    }

    fn leaf_of(opening: &Opening) -> Leaf {
        Leaf { kind: 16, time_ms: 1_767_225_600_000, commitment: opening.parts().commitment() }
    }

    /// What is on disks today is opened for ever; a change of these bytes is a new format.
    #[test]
    fn the_bytes_of_a_sealed_record_stay() {
        let plain = plain("{\"kind\":\"golden\"}");
        let opening = plain.opening(Retention::TRACES);
        let leaf = leaf_of(&opening);
        let sealed = seal_record(&SecretKey::new([1; 32]), (42, &leaf, &opening), &plain, [9; NONCE_LEN]).unwrap();
        let golden = include_str!("../testdata/sealed-record-v1.hex").trim();
        assert!(hex::encode(&sealed) == golden, "{}", hex::encode(&sealed));
    }

    #[test]
    fn a_sealed_record_opens_at_its_place_and_for_its_time_only() {
        let (plain, key) = (plain("{}"), SecretKey::new([1; 32]));
        let opening = plain.opening(Retention::TRACES);
        let leaf = leaf_of(&opening);
        let other = Leaf { commitment: Hash([0; 32]), ..leaf };
        let sealed = seal_record(&key, (42, &leaf, &opening), &plain, [9; NONCE_LEN]).unwrap();
        let opens = |index: u64, leaf: Leaf, opening: Opening| {
            let mut plain = sealed.get(NONCE_LEN..).unwrap_or_default().to_vec();
            let aad = Aad::from(additional_data(index, &leaf, &opening));
            cipher(&key).unwrap().open_in_place(Nonce::assume_unique_for_key([9; NONCE_LEN]), aad, &mut plain).is_ok()
        };
        assert!(opens(42, leaf, opening));
        assert!(!opens(43, leaf, opening) && !opens(42, other, opening));
        assert!(!opens(42, leaf, Opening { retention: Retention::LOG, ..opening }));
        assert!(!opens(42, leaf, Opening { retention_salt: Salt([0; 32]), ..opening }));
    }

    #[test]
    fn an_entry_whose_opening_was_changed_is_damaged_whether_or_not_its_record_is_there() {
        let plain = plain("{}");
        let opening = plain.opening(Retention::TRACES);
        let entry = SealedEntry { leaf: leaf_of(&opening), opening, sealed: Vec::new() };
        assert!(entry.check_opening(3).is_ok());
        for changed in [
            Opening { retention: Retention::from_months(1), ..opening },
            Opening { retention_salt: Salt([0; 32]), ..opening },
            Opening { record: Hash([0; 32]), ..opening },
            Opening { links: Hash([0; 32]), ..opening },
        ] {
            let changed = SealedEntry { opening: changed, ..entry.clone() };
            assert!(matches!(changed.check_opening(3), Err(StoreError::Corrupt(_))));
        }
    }
}
