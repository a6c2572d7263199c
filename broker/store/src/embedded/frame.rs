//! The frame: one batch on disk. Byte for byte in `FORMAT.md`; all integers are big-endian.
//!
//! ```text
//! "UFR1" ‖ length u32 ‖ first u64 ‖ count u32
//!   ‖ count × (leaf 42 bytes ‖ retention u8 ‖ its salt 32 ‖ record part 32 ‖ links part 32 ‖ sealed length u32 ‖ sealed)
//!   ‖ root 32 ‖ signature 64 ‖ CRC-32C u32 of all before it ‖ zeros to a multiple of 8
//! ```
//! `length` counts from the frame's first byte to the end of the checksum.

use unefois_audit::{Hash, Leaf, Salt};
use unefois_consent::Retention;
use unefois_engine::store::{Batch, Opening, SealedEntry};

const MAGIC: [u8; 4] = *b"UFR1";
/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 8;
/// Magic, length, first, count.
pub(super) const HEAD: usize = 20;
/// Of an entry, what comes before the sealed record: leaf, retention with its salt, two parts, length.
const ENTRY: usize = Leaf::LEN + 1 + 3 * 32 + 4;
/// Root, signature, checksum.
const TAIL: usize = 32 + 64 + 4;
/// Largest frame that is read: a full batch, one large step and room to spare.
pub(super) const MAX_FRAME: usize = 64 << 20;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoFrame {
    /// No frame was ever begun here.
    Blank,
    /// A frame was begun and is not whole, or was changed.
    Damaged,
}

/// What the first bytes of a frame say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Bytes with the checksum, without padding.
    pub(super) length: usize,
    pub(super) first: u64,
    pub(super) count: u32,
}

impl FrameHead {
    /// Index after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    /// Bytes to the next frame.
    pub(super) fn padded(&self) -> usize {
        self.length.next_multiple_of(ALIGN)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NoFrame> {
        let mut reader = Reader(bytes);
        let magic = reader.array::<4>().ok_or(NoFrame::Blank)?;
        if magic == [0; 4] {
            return Err(NoFrame::Blank);
        }
        let length = reader.u32().ok_or(NoFrame::Damaged)?;
        let first = reader.u64().ok_or(NoFrame::Damaged)?;
        let count = reader.u32().ok_or(NoFrame::Damaged)?;
        let length = usize::try_from(length).map_err(|_| NoFrame::Damaged)?;
        if magic != MAGIC || !(HEAD + TAIL..=MAX_FRAME).contains(&length) || count == 0 {
            return Err(NoFrame::Damaged);
        }
        Ok(Self { length, first, count })
    }
}

/// Appends the frame of `batch`, with its padding, to `out`.
pub(super) fn encode(batch: &Batch, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let sealed: usize = batch.entries.iter().map(|e| ENTRY + e.sealed.len()).sum();
    let length = HEAD + sealed + TAIL;
    out.reserve(length.next_multiple_of(ALIGN));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
    out.extend_from_slice(&batch.first.to_be_bytes());
    out.extend_from_slice(&u32::try_from(batch.entries.len()).ok()?.to_be_bytes());
    for entry in &batch.entries {
        out.extend_from_slice(&entry.leaf.encode());
        out.push(entry.opening.retention.months());
        out.extend_from_slice(&entry.opening.retention_salt.0);
        out.extend_from_slice(&entry.opening.record.0);
        out.extend_from_slice(&entry.opening.links.0);
        out.extend_from_slice(&u32::try_from(entry.sealed.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&entry.sealed);
    }
    out.extend_from_slice(&batch.root.0);
    out.extend_from_slice(&batch.signature);
    let checksum = crc32c::crc32c(out.get(start..)?);
    out.extend_from_slice(&checksum.to_be_bytes());
    out.resize(start + length.next_multiple_of(ALIGN), 0);
    Some(())
}

/// Whether `bytes` begin like a frame of a format that comes after this one.
pub(super) fn is_newer(bytes: &[u8]) -> bool {
    matches!(bytes, [b'U', b'F', b'R', digit, ..] if digit.is_ascii_digit() && *digit > b'1')
}

/// Whether `bytes` begin like a frame.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Reads the frame at the start of `bytes`, and how many bytes it takes with its padding.
pub(super) fn decode(bytes: &[u8]) -> Result<(Batch, usize), NoFrame> {
    let head = FrameHead::parse(bytes)?;
    let frame = bytes.get(..head.length).ok_or(NoFrame::Damaged)?;
    let (body, checksum) = frame.split_last_chunk::<4>().ok_or(NoFrame::Damaged)?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
        return Err(NoFrame::Damaged);
    }
    let batch = decode_body(body, &head).ok_or(NoFrame::Damaged)?;
    Ok((batch, head.padded()))
}

fn decode_body(body: &[u8], head: &FrameHead) -> Option<Batch> {
    let mut reader = Reader(body.get(HEAD..)?);
    // The count is bounded by the bytes that are there, not by what it says.
    let mut entries = Vec::with_capacity((head.count as usize).min(body.len() / ENTRY));
    for _ in 0..head.count {
        let leaf = Leaf::decode(reader.take(Leaf::LEN)?).ok()?;
        let [months] = reader.array()?;
        let opening = Opening {
            retention: Retention::from_months(months),
            retention_salt: Salt(reader.array()?),
            record: Hash(reader.array()?),
            links: Hash(reader.array()?),
        };
        let sealed_length = usize::try_from(reader.u32()?).ok()?;
        entries.push(SealedEntry { leaf, opening, sealed: reader.take(sealed_length)?.to_vec() });
    }
    let root = Hash(reader.array()?);
    let signature = reader.array()?;
    reader.0.is_empty().then_some(Batch { first: head.first, entries, root, signature })
}

/// Takes bytes from the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let entry = |n: u8| SealedEntry {
            leaf: Leaf { kind: 16, time_ms: 1_767_225_600_000 + u64::from(n), commitment: Hash([n; 32]) },
            opening: Opening {
                retention: Retention::from_months(12 * n),
                retention_salt: Salt([n + 1; 32]),
                record: Hash([n + 2; 32]),
                links: Hash([n + 3; 32]),
            },
            sealed: vec![n; 60 + usize::from(n)],
        };
        Batch { first: 7, entries: (0..5).map(entry).collect(), root: Hash([9; 32]), signature: [3; 64] }
    }

    #[test]
    fn a_frame_reads_back_and_is_aligned() {
        let mut bytes = Vec::new();
        encode(&batch(), &mut bytes).unwrap();
        assert_eq!(bytes.len() % ALIGN, 0);
        assert_eq!(decode(&bytes).unwrap(), (batch(), bytes.len()));
    }

    /// What is on disks today is read for ever; a change of these bytes is a new format.
    #[test]
    fn the_bytes_of_a_frame_stay() {
        let golden = hex::decode(include_str!("../../testdata/frame-v1.hex").replace('\n', "")).unwrap();
        let mut bytes = Vec::new();
        encode(&batch(), &mut bytes).unwrap();
        assert!(bytes == golden, "{}", hex::encode(&bytes));
        assert_eq!(decode(&golden).unwrap(), (batch(), golden.len()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut bytes = Vec::new();
        encode(&batch(), &mut bytes).unwrap();
        let length = FrameHead::parse(&bytes).unwrap().length;
        for bit in 0..length * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&changed).is_err(), "bit {bit}");
        }
        for cut in 0..length {
            let mut torn = bytes.clone();
            torn[cut..].fill(0);
            assert!(decode(&torn).is_err() || torn == bytes, "cut at {cut}");
        }
        assert_eq!(decode(&[0; 64]), Err(NoFrame::Blank));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..512)) {
            let _ = decode(&bytes);
            let framed = [&MAGIC[..], &bytes].concat();
            let _ = decode(&framed);
        }
    }
}
