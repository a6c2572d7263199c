//! Sealing of records: AES-256-GCM under the key of the entry's month and of the record's retention.
//!
//! Plaintext: salt (32 bytes) ‖ record. Additional data: index (8 bytes, big-endian) ‖ leaf (42 bytes), so that a sealed
//! record cannot be moved to another entry. Stored: nonce (12 bytes, random) ‖ ciphertext ‖ tag (16 bytes).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use unefois_audit::{Leaf, Salt, commitment};
use unefois_consent::{Event, RecordPeriod, Retention, Timestamp};

use crate::store::{RecordKeys, SealedEntry, SecretKey, StoreError};

/// A record that was unsealed and found to be what its leaf commits to.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenRecord {
    /// The salt of the commitment.
    pub salt: Salt,
    /// The exact text that the leaf commits to.
    pub record: String,
}

impl std::fmt::Debug for OpenRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[record]")
    }
}

fn cipher(key: &SecretKey) -> Result<LessSafeKey, StoreError> {
    let unbound = UnboundKey::new(&AES_256_GCM, key.expose());
    unbound.map(LessSafeKey::new).map_err(|_| StoreError::Corrupt("a record key is not of 32 bytes".to_owned()))
}

fn additional_data(index: u64, leaf: &Leaf) -> [u8; 8 + Leaf::LEN] {
    let mut data = [0; 8 + Leaf::LEN];
    let (head, tail) = data.split_at_mut(8);
    head.copy_from_slice(&index.to_be_bytes());
    tail.copy_from_slice(&leaf.encode());
    data
}

/// Seals one record under `key`, which must be that of its period. `nonce` must be random: one that is used twice under a key gives
/// both records away.
pub fn seal_record(
    key: &SecretKey,
    index: u64,
    leaf: &Leaf,
    salt: &Salt,
    record: &str,
    nonce: [u8; NONCE_LEN],
) -> Result<Vec<u8>, StoreError> {
    seal_with(&cipher(key)?, index, leaf, salt, record, nonce)
}

fn seal_with(
    cipher: &LessSafeKey,
    index: u64,
    leaf: &Leaf,
    salt: &Salt,
    record: &str,
    nonce: [u8; NONCE_LEN],
) -> Result<Vec<u8>, StoreError> {
    let mut sealed = Vec::with_capacity(NONCE_LEN + salt.0.len() + record.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&salt.0);
    sealed.extend_from_slice(record.as_bytes());
    let aad = Aad::from(additional_data(index, leaf));
    let Some(plain) = sealed.get_mut(NONCE_LEN..) else {
        return Err(StoreError::NotWritten("a record could not be sealed".to_owned()));
    };
    let tag = cipher
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, plain)
        .map_err(|_| StoreError::NotWritten("a record could not be sealed".to_owned()))?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Seals the records of one writer; keeps the current month's ciphers at hand.
pub(crate) struct Sealer {
    keys: Arc<dyn RecordKeys>,
    current: Vec<(RecordPeriod, LessSafeKey)>,
}

impl Sealer {
    pub(crate) fn new(keys: Arc<dyn RecordKeys>) -> Self {
        Self { keys, current: Vec::new() }
    }

    /// Makes sure that the key of most records of `now` exists and is durable. That can fail for want of a disk, so it
    /// comes before anything is decided.
    pub(crate) fn prepare(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.cipher(RecordPeriod::new(now, Retention::TRACES)).map(drop)
    }

    fn cipher(&mut self, period: RecordPeriod) -> Result<&LessSafeKey, StoreError> {
        let at = match self.current.iter().position(|(known, _)| *known == period) {
            Some(at) => at,
            None => {
                self.current.retain(|(known, _)| known.month == period.month);
                self.current.push((period, cipher(&self.keys.get_or_create(period)?)?));
                self.current.len() - 1
            }
        };
        let found = self.current.get(at).map(|(_, cipher)| cipher);
        found.ok_or_else(|| StoreError::NotWritten("no record key is at hand".to_owned()))
    }

    /// Seals one record under the key of its period.
    pub(crate) fn seal(
        &mut self,
        index: u64,
        leaf: &Leaf,
        retention: Retention,
        (salt, record): (&Salt, &str),
        nonce: [u8; NONCE_LEN],
    ) -> Result<Vec<u8>, StoreError> {
        let period = RecordPeriod::new(Timestamp::from_millis(leaf.time_ms), retention);
        seal_with(self.cipher(period)?, index, leaf, salt, record, nonce)
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

    /// The record of entry `index`, or `None` where its key was destroyed. A record that does not open, or that
    /// its leaf does not commit to, is `Corrupt`.
    pub fn open(&self, index: u64, entry: &SealedEntry) -> Result<Option<OpenRecord>, StoreError> {
        self.read(index, entry, |salt, record| Ok(OpenRecord { salt, record: record.to_owned() }))
    }

    /// Gives the salt and the text of such a record to `read`.
    pub(crate) fn read<T>(
        &self,
        index: u64,
        entry: &SealedEntry,
        read: impl FnOnce(Salt, &str) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let Some(cipher) = self.cipher(entry.period())? else { return Ok(None) };
        let damaged = || {
            StoreError::Corrupt(format!("the record of entry {index} does not open or is not what its leaf commits to"))
        };
        let (nonce, sealed) = entry.sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut plain = sealed.to_vec();
        let aad = Aad::from(additional_data(index, &entry.leaf));
        let plain =
            cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut plain).map_err(|_| damaged())?;
        let (salt, record) = plain.split_first_chunk::<32>().ok_or_else(damaged)?;
        let salt = Salt(*salt);
        if commitment(&salt, record) != entry.leaf.commitment {
            return Err(damaged());
        }
        let record = std::str::from_utf8(record).map_err(|_| damaged())?;
        read(salt, record).map(Some)
    }

    /// What the record of entry `index` says, or `None` where its key was destroyed. One that does not open or parse is
    /// `Corrupt`.
    pub(crate) fn event(&self, index: u64, entry: &SealedEntry) -> Result<Option<Event>, StoreError> {
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

    /// What is on disks today is opened for ever; a change of these bytes is a new format.
    #[test]
    fn the_bytes_of_a_sealed_record_stay() {
        let (salt, record) = (Salt([7; 32]), "{\"kind\":\"golden\"}");
        let leaf = Leaf { kind: 16, time_ms: 1_767_225_600_000, commitment: commitment(&salt, record.as_bytes()) };
        let sealed = seal_record(&SecretKey::new([1; 32]), 42, &leaf, &salt, record, [9; NONCE_LEN]).unwrap();
        let golden = include_str!("../testdata/sealed-record-v1.hex").trim();
        assert!(hex::encode(&sealed) == golden, "{}", hex::encode(&sealed));
    }

    #[test]
    fn a_sealed_record_opens_at_its_place_only() {
        let (salt, record, key) = (Salt([7; 32]), "{}", SecretKey::new([1; 32]));
        let leaf = Leaf { kind: 16, time_ms: 1_767_225_600_000, commitment: commitment(&salt, record.as_bytes()) };
        let other = Leaf { commitment: Hash([0; 32]), ..leaf };
        let seal = |index, leaf| seal_record(&key, index, leaf, &salt, record, [9; NONCE_LEN]).unwrap();
        let opens = |index: u64, leaf: Leaf, sealed: &[u8]| {
            let mut plain = sealed.get(NONCE_LEN..).unwrap_or_default().to_vec();
            let aad = Aad::from(additional_data(index, &leaf));
            cipher(&key).unwrap().open_in_place(Nonce::assume_unique_for_key([9; NONCE_LEN]), aad, &mut plain).is_ok()
        };
        let sealed = seal(42, &leaf);
        assert!(opens(42, leaf, &sealed));
        assert!(!opens(43, leaf, &sealed) && !opens(42, other, &sealed));
    }
}
