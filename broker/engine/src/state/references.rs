//! The references that a replay has met: no two persons and no two exchanges may have one, and every record names a person who
//! is known.

use std::collections::HashSet;

use unefois_consent::{ExchangeId, SubjectRef};

use super::{State, keys};
use crate::rows::Key;
use crate::store::StoreError;

/// So many are kept in memory, in 142 MB; the others are rows. Every entry that names a person looks here, and a look into the
/// fold would take a third of the time of a replay.
const MAX_AT_HAND: usize = 7 << 20;

/// References in memory, of 16 random bytes each: those that were met first.
#[derive(Debug)]
pub(super) struct References {
    at_hand: HashSet<[u8; 16]>,
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
        self.has_met(&self.references, &subject.0, || keys::reference(subject))
    }

    /// Whether it was new.
    pub(crate) fn add_reference(&mut self, subject: SubjectRef) -> Result<bool, StoreError> {
        if self.has_reference(subject)? {
            return Ok(false);
        }
        let References { at_hand, most } = &mut self.references;
        if at_hand.len() < *most {
            at_hand.insert(subject.0);
        } else {
            self.add_row(keys::reference(subject));
        }
        Ok(true)
    }

    /// Whether this reference of an exchange was new to a replay.
    pub(crate) fn add_exchange(&mut self, exchange: ExchangeId) -> Result<bool, StoreError> {
        if self.has_met(&self.exchanges, &exchange.0, || keys::exchange(exchange))? {
            return Ok(false);
        }
        let References { at_hand, most } = &mut self.exchanges;
        if at_hand.len() < *most {
            at_hand.insert(exchange.0);
        } else {
            self.add_row(keys::exchange(exchange));
        }
        Ok(true)
    }

    fn has_met(&self, kept: &References, id: &[u8; 16], key: impl FnOnce() -> Key) -> Result<bool, StoreError> {
        if kept.at_hand.contains(id) {
            return Ok(true);
        }
        if kept.at_hand.len() < kept.most {
            return Ok(false);
        }
        let key = key();
        Ok(self.met.may_have(&key) && self.rows.get(&key)?.is_some())
    }

    fn add_row(&mut self, key: Key) {
        self.met.add(&key);
        self.rows.put(key, Vec::new());
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
        (state.references.most, state.exchanges.most) = (2, 2);
        for n in 0..5 {
            let (subject, exchange) = (SubjectRef([n; 16]), ExchangeId([n; 16]));
            assert!(!state.has_reference(subject).unwrap());
            assert!(state.add_reference(subject).unwrap() && !state.add_reference(subject).unwrap());
            assert!(state.add_exchange(exchange).unwrap() && !state.add_exchange(exchange).unwrap());
        }
        assert!((0..5).all(|n| state.has_reference(SubjectRef([n; 16])).unwrap()));
        assert_eq!((state.references.at_hand.len(), state.rows.waiting()), (2, 6));
    }
}
