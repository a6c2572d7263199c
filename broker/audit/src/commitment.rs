//! What a leaf commits to: the record, how long it is kept, and its place among the entries about each person.
//!
//! Each part is hashed under a salt of its own, so each can be opened alone: a receipt opens the record and shows of the other
//! two parts the hash only. The opening of the retention stays when the record is destroyed. Without its salt a part says
//! nothing, however few values it may take.

use crate::hash::{Hash, digest_parts};
use crate::leaf::Salt;

const ENTRY_LABEL: &[u8] = b"unefois/entry/v1\0";
const RECORD_LABEL: &[u8] = b"unefois/record/v1\0";
const RETENTION_LABEL: &[u8] = b"unefois/retention/v1\0";
const LINKS_LABEL: &[u8] = b"unefois/links/v1\0";
const LINK_LABEL: &[u8] = b"unefois/link/v1\0";

/// The hashes of the three parts of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// [`record_part`] of the record.
    pub record: Hash,
    /// [`retention_part`] of how long the record is kept.
    pub retention: Hash,
    /// [`links_part`] of the links to persons.
    pub links: Hash,
}

impl Parts {
    /// The commitment of the leaf: SHA-256("unefois/entry/v1" ‖ 0x00 ‖ record ‖ retention ‖ links).
    pub fn commitment(&self) -> Hash {
        digest_parts(&[ENTRY_LABEL, &self.record.0, &self.retention.0, &self.links.0])
    }
}

/// The part of the record, whose exact text is `record`: SHA-256("unefois/record/v1" ‖ 0x00 ‖ salt ‖ record).
pub fn record_part(salt: &Salt, record: &[u8]) -> Hash {
    digest_parts(&[RECORD_LABEL, &salt.0, record])
}

/// The part of the retention in months, 0 for as long as the log: SHA-256("unefois/retention/v1" ‖ 0x00 ‖ salt ‖ months).
pub fn retention_part(salt: &Salt, months: u8) -> Hash {
    digest_parts(&[RETENTION_LABEL, &salt.0, &[months]])
}

/// The part of the links: SHA-256("unefois/links/v1" ‖ 0x00 ‖ salt ‖ the [`Link::hash`] of each, in order). Who is shown one
/// link, the salt and the hashes of the others checks that one and learns nothing of the others but their number.
pub fn links_part(salt: &Salt, links: &[Hash]) -> Hash {
    let mut bytes = Vec::with_capacity(LINKS_LABEL.len() + salt.0.len() + 32 * links.len());
    bytes.extend_from_slice(LINKS_LABEL);
    bytes.extend_from_slice(&salt.0);
    links.iter().for_each(|link| bytes.extend_from_slice(&link.0));
    digest_parts(&[&bytes])
}

/// The place of an entry among those about one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Hides the link.
    pub salt: Salt,
    /// The person, by the reference of the log.
    pub subject: [u8; 16],
    /// Number of the entry among those about the person, from 0.
    pub number: u64,
    /// Index of the one before; `None` of the first.
    pub before: Option<u64>,
}

impl Link {
    /// Bytes of an encoded link.
    pub const LEN: usize = 32 + 16 + 8 + 8;

    /// Salt 32 ‖ subject 16 ‖ number u64 ‖ index of the one before u64, 2^64 - 1 where there is none.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (salt, rest) = bytes.split_at_mut(32);
        let (subject, rest) = rest.split_at_mut(16);
        let (number, before) = rest.split_at_mut(8);
        salt.copy_from_slice(&self.salt.0);
        subject.copy_from_slice(&self.subject);
        number.copy_from_slice(&self.number.to_be_bytes());
        before.copy_from_slice(&self.before.unwrap_or(u64::MAX).to_be_bytes());
        bytes
    }

    /// Reads what [`Link::encode`] writes.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (salt, rest) = bytes.split_first_chunk::<32>()?;
        let (subject, rest) = rest.split_first_chunk::<16>()?;
        let (number, before) = rest.split_first_chunk::<8>()?;
        let before = u64::from_be_bytes(before.try_into().ok()?);
        Some(Self {
            salt: Salt(*salt),
            subject: *subject,
            number: u64::from_be_bytes(*number),
            before: (before != u64::MAX).then_some(before),
        })
    }

    /// SHA-256("unefois/link/v1" ‖ 0x00 ‖ the encoded link).
    pub fn hash(&self) -> Hash {
        digest_parts(&[LINK_LABEL, &self.encode()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link { salt: Salt([5; 32]), subject: [6; 16], number: 7, before: Some(8) }
    }

    #[test]
    fn a_commitment_depends_on_every_part() {
        let salt = Salt([9; 32]);
        let parts = Parts {
            record: record_part(&salt, b"record"),
            retention: retention_part(&salt, 36),
            links: links_part(&salt, &[link().hash()]),
        };
        let original = parts.commitment();
        let others = [
            Parts { record: record_part(&salt, b"recorD"), ..parts },
            // The end of the salt cannot pass for the start of the record: the salt has a fixed length.
            Parts { record: record_part(&salt, b"\x09record"), ..parts },
            Parts { record: record_part(&Salt([8; 32]), b"record"), ..parts },
            Parts { retention: retention_part(&salt, 0), ..parts },
            Parts { retention: retention_part(&Salt([8; 32]), 36), ..parts },
            Parts { links: links_part(&salt, &[]), ..parts },
            Parts { links: links_part(&salt, &[link().hash(), link().hash()]), ..parts },
            Parts { record: parts.retention, retention: parts.record, links: parts.links },
        ];
        for other in others {
            assert_ne!(other.commitment(), original, "{other:?}");
        }
    }

    #[test]
    fn parts_of_the_same_bytes_are_told_apart() {
        let salt = Salt([1; 32]);
        let hashes = [record_part(&salt, &[36]), retention_part(&salt, 36), links_part(&salt, &[])];
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
    }

    #[test]
    fn a_link_reads_back_and_depends_on_each_member() {
        for link in [link(), Link { before: None, ..link() }] {
            assert_eq!(Link::decode(&link.encode()), Some(link));
        }
        let others = [
            Link { salt: Salt([0; 32]), ..link() },
            Link { subject: [0; 16], ..link() },
            Link { number: 0, ..link() },
            Link { before: None, ..link() },
        ];
        assert!(others.iter().all(|other| other.hash() != link().hash()));
    }
}
