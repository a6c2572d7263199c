//! Wakes whoever follows the ledger of an administration, when something in it concerns that administration.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use unefois_consent::Siret;

/// Those who follow, by administration.
#[derive(Debug, Default)]
pub(crate) struct LedgerSteps(Mutex<BTreeMap<Siret, watch::Sender<u64>>>);

impl LedgerSteps {
    /// Told of each step that changes what concerns `consumer`.
    pub(super) fn of(&self, consumer: Siret) -> watch::Receiver<u64> {
        self.lock().entry(consumer).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Something changed for `consumers`.
    pub(super) fn tell(&self, consumers: &[Siret]) {
        let mut followed = self.lock();
        for consumer in consumers {
            let Some(sender) = followed.get(consumer) else { continue };
            sender.send_modify(|steps| *steps += 1);
            if sender.receiver_count() == 0 {
                followed.remove(consumer);
            }
        }
    }

    /// The registry changed: whoever follows may have lost the right to.
    pub(crate) fn tell_all(&self) {
        self.lock().values().for_each(|sender| sender.send_modify(|steps| *steps += 1));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Siret, watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_wakes_those_whom_it_concerns_and_nobody_else() {
        let (steps, one, other) = (LedgerSteps::default(), siret("13002526500013"), siret("21350238800019"));
        let (mut first, mut second) = (steps.of(one), steps.of(other));
        steps.tell(&[one]);
        assert!(first.has_changed().unwrap() && !second.has_changed().unwrap());
        first.mark_unchanged();
        second.mark_unchanged();
        steps.tell(&[one, other]);
        assert!(first.has_changed().unwrap() && second.has_changed().unwrap());
        drop(first);
        steps.tell(&[one]);
        assert_eq!(steps.lock().len(), 1, "nobody follows any more");
    }

    fn siret(text: &str) -> Siret {
        text.parse().unwrap()
    }
}
