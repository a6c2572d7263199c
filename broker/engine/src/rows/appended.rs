//! Changes of rows in the order in which they came.
//!
//! A fold that is built from the beginning of a log gets millions of rows and reads few of them. To keep each in an ordered
//! map costs more than to derive it, so here a change is written behind the one before it and is found by what its key begins
//! with. All are put in order once, when the fold gets them.

use crate::state::BY_PERSON;
use crate::store::RowChange;

/// What the keys of one person begin with, in the tables that are looked through by person: a letter and 16 bytes.
const PERSON: usize = 17;
/// Keys share slots; what is found is compared.
const SLOT_BITS: u32 = 18;
const NONE: u32 = u32::MAX;
/// The length of a value that is not there.
const REMOVED: u32 = u32::MAX;
/// Room for a change: most take less.
const CHANGE_BYTES: usize = 128;

/// Changes in the order in which they came.
#[derive(Debug)]
pub(super) struct Appended {
    /// Each change: length of the key u16 ‖ length of the value u32, or [`REMOVED`] ‖ key ‖ value.
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// The last place of each slot.
    slots: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    /// The place before it in the same slot.
    before: u32,
}

impl Appended {
    /// With room for about `rows` changes.
    pub(super) fn with_room_for(rows: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(rows.saturating_mul(CHANGE_BYTES)),
            places: Vec::with_capacity(rows),
            slots: vec![NONE; 1 << SLOT_BITS],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// All changes as they are kept.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let at = self.bytes.len();
        // Keys have 127 bytes at most; values are no larger than the records that they come from, of a few MB at most.
        debug_assert!(key.len() < usize::from(u16::MAX) && value.is_none_or(|value| value.len() < 1 << 31));
        let key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
        let value_length = value.map_or(REMOVED, |value| u32::try_from(value.len()).unwrap_or(REMOVED - 1));
        self.bytes.extend_from_slice(&key_length.to_le_bytes());
        self.bytes.extend_from_slice(&value_length.to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let number = u32::try_from(self.places.len()).unwrap_or(NONE);
        if let Some(last) = self.slots.get_mut(slot(key)) {
            self.places.push(Place { at, before: std::mem::replace(last, number) });
        }
    }

    fn place(&self, number: u32) -> Option<Place> {
        self.places.get(usize::try_from(number).ok()?).copied()
    }

    fn change(&self, place: Place) -> Option<RowChange<'_>> {
        let (key_length, rest) = self.bytes.get(place.at..)?.split_first_chunk::<2>()?;
        let (value_length, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_length)))?;
        match u32::from_le_bytes(*value_length) {
            REMOVED => Some((key, None)),
            length => Some((key, Some(rest.get(..usize::try_from(length).ok()?)?))),
        }
    }

    /// The changes of rows in the slot of `key`, newest first.
    fn in_slot_of(&self, key: &[u8]) -> impl Iterator<Item = RowChange<'_>> {
        let last = self.slots.get(slot(key)).and_then(|last| self.place(*last));
        std::iter::successors(last, |place| self.place(place.before)).filter_map(|place| self.change(place))
    }

    /// What became of the row of `key` last.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.in_slot_of(key).find(|(changed, _)| *changed == key).map(|(_, value)| value)
    }

    /// The changes of rows under `prefix`, newest first.
    pub(super) fn under<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = RowChange<'a>> {
        // Either the slot of one person or, where the prefix names none, everything.
        let of_person = person_in(prefix).map(|person| self.in_slot_of(person));
        let all = of_person.is_none().then(|| self.places.iter().rev().filter_map(|place| self.change(*place)));
        let either = of_person.into_iter().flatten().chain(all.into_iter().flatten());
        either.filter(move |(key, _)| key.starts_with(prefix))
    }

    /// The last change of each row, in the order of keys.
    pub(super) fn in_order(&self) -> Vec<RowChange<'_>> {
        // Most keys differ in their first eight bytes, and so need not be fetched to compare.
        let mut ordered: Vec<(u64, u32)> = (0..)
            .zip(&self.places)
            .map(|(number, place)| (self.change(*place).map_or(0, |(key, _)| first_bytes(key)), number))
            .collect();
        let key = |number: u32| self.place(number).and_then(|place| self.change(place)).map_or(&[][..], |(key, _)| key);
        ordered.sort_unstable_by(|(first, number), (other_first, other)| {
            first.cmp(other_first).then_with(|| key(*number).cmp(key(*other))).then_with(|| other.cmp(number))
        });
        let mut changes: Vec<RowChange<'_>> = Vec::with_capacity(ordered.len());
        for (_, number) in ordered {
            // The last change of a row comes first.
            changes.extend(
                self.place(number)
                    .and_then(|place| self.change(place))
                    .filter(|(key, _)| changes.last().is_none_or(|(before, _)| before != key)),
            );
        }
        changes
    }
}

/// The first eight bytes of `key`, which sort as it does but for equal ones.
fn first_bytes(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(first)
}

/// What all keys of the same person in the same table begin with; `None` where `key` is of another table or shorter.
fn person_in(key: &[u8]) -> Option<&[u8]> {
    let is_by_person = key.first().is_some_and(|table| BY_PERSON.contains(table));
    key.get(..PERSON).filter(|_| is_by_person)
}

/// The slot of `key`: that of its person, where its table is looked through by person.
fn slot(key: &[u8]) -> usize {
    let mixed = person_in(key).unwrap_or(key).chunks(8).fold(0, |mixed: u64, part| {
        let mut word = [0; 8];
        word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        (mixed.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
    usize::try_from(mixed >> (u64::BITS - SLOT_BITS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_begin_alike_have_slots_of_their_own() {
        let (canteen, nursery) = (b"usaint-germain-en-laye-cantine", b"usaint-germain-en-laye-creche");
        let mut rows = Appended::with_room_for(2);
        rows.push(canteen, Some(&[1]));
        assert_eq!(rows.in_slot_of(nursery).count(), 0);
        assert_eq!((rows.get(nursery), rows.get(canteen)), (None, Some(Some(&[1][..]))));
    }

    #[test]
    fn all_rows_of_a_person_are_in_one_slot() {
        let mut rows = Appended::with_room_for(3);
        for end in 0..3 {
            rows.push(&[&b"t"[..], &[7; 16], &[end]].concat(), Some(&[end]));
        }
        let prefix = [&b"t"[..], &[7; 16]].concat();
        let found: Vec<_> = rows.under(&prefix).filter_map(|(_, value)| value?.first().copied()).collect();
        assert_eq!(found, [2, 1, 0]);
    }
}
