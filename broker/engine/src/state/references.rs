//! The references of persons that a replay has met: no two persons may have one, and every record names one that is known.

use std::collections::HashSet;

use unefois_consent::SubjectRef;

use super::{State, keys};
use crate::store::StoreError;

/// So many are kept in memory, in 142 MB; the others are rows. Every entry that names a person looks here, and a look into the
/// fold would take a third of the time of a replay.
const MAX_AT_HAND: usize = 7 << 20;

/// References in memory: those that were met first.
#[derive(Debug)]
pub(super) struct References {
    at_hand: HashSet<SubjectRef>,
    most: usize,
}

impl Default for References {
    fn default() -> Self {
        Self { at_hand: HashSet::new(), most: MAX_AT_HAND }
    }
}

impl State {
    /// Whether a replay has met this reference of a person.
    pub(crate) fn has_reference(&self, subject: SubjectRef) -> Result<bool, StoreError> {
        let References { at_hand, most } = &self.references;
        if at_hand.contains(&subject) {
            return Ok(true);
        }
        let key = keys::reference(subject);
        Ok(at_hand.len() >= *most && self.met.may_have(&key) && self.rows.get(&key)?.is_some())
    }

    /// Whether it was new.
    pub(crate) fn add_reference(&mut self, subject: SubjectRef) -> Result<bool, StoreError> {
        if self.has_reference(subject)? {
            return Ok(false);
        }
        let References { at_hand, most } = &mut self.references;
        if at_hand.len() < *most {
            at_hand.insert(subject);
        } else {
            let key = keys::reference(subject);
            self.met.add(&key);
            self.rows.put(key, Vec::new());
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::MemoryRows;

    #[test]
    fn each_is_new_once_wherever_it_is_kept() {
        let mut state = State::load(Arc::new(MemoryRows::default())).unwrap();
        state.references.most = 2;
        for n in 0..5 {
            let subject = SubjectRef([n; 16]);
            assert!(!state.has_reference(subject).unwrap());
            assert!(state.add_reference(subject).unwrap() && !state.add_reference(subject).unwrap());
        }
        assert!((0..5).all(|n| state.has_reference(SubjectRef([n; 16])).unwrap()));
        assert_eq!((state.references.at_hand.len(), state.rows.waiting()), (2, 3));
    }
}
