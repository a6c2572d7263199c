//! The same question asked twice at once goes to the source once.
//!
//! Who asks a question that is under way waits for it and takes its answer. An answer is given to those who waited and to
//! nobody later. The first call's exchange is the one whose id the source sees. Cancel-safe: where the one who asks leaves, the
//! next one asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ring::digest::{Context, SHA256};
use tokio::sync::OnceCell;

use crate::SourceFault;

/// What makes two questions the same one: a digest, so that nothing of the person or of a token lies about.
pub(crate) type Key = [u8; 32];
type Answer<T> = OnceCell<Result<Arc<T>, SourceFault>>;

/// Calls under way.
#[derive(Debug)]
pub(crate) struct Flights<T>(Mutex<HashMap<Key, Weak<Answer<T>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Flights<T> {
    /// Asks, or waits for the question of the same `key` that is asked already.
    pub(crate) async fn join(
        &self,
        key: Key,
        ask: impl AsyncFnOnce() -> Result<T, SourceFault>,
    ) -> Result<Arc<T>, SourceFault> {
        let flight = self.seat(key);
        let asked = flight.get_or_try_init(|| async {
            match ask().await {
                Ok(said) => Ok(Ok(Arc::new(said))),
                // These come from the time that the one who asked had: the next one may have more, and tries.
                Err(fault @ (SourceFault::Timeout | SourceFault::LeftAlone | SourceFault::RateLimited(_))) => {
                    Err(fault)
                }
                Err(
                    fault @ (SourceFault::Down(_)
                    | SourceFault::NotAuthorised(_)
                    | SourceFault::Untrusted(_)
                    | SourceFault::NotAsked),
                ) => Ok(Err(fault)),
            }
        });
        let answer = asked.await.cloned();
        if answer.is_ok() {
            self.close(&key, &flight);
        }
        answer?
    }

    fn seat(&self, key: Key) -> Arc<Answer<T>> {
        let mut flights = self.locked();
        // Those whose askers all left.
        flights.retain(|_, answer| answer.strong_count() > 0);
        if let Some(answer) = flights.get(&key).and_then(Weak::upgrade) {
            return answer;
        }
        let answer = Arc::new(OnceCell::new());
        flights.insert(key, Arc::downgrade(&answer));
        answer
    }

    /// Lets nobody else in: who comes now asks anew.
    fn close(&self, key: &Key, answer: &Arc<Answer<T>>) {
        let mut flights = self.locked();
        if flights.get(key).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(answer))) {
            flights.remove(key);
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Key, Weak<Answer<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        self.locked().len()
    }
}

/// The digest of what makes a question the same one. Each part is preceded by its length, so that no two lists of parts are one
/// text.
pub(crate) fn key<'a>(parts: impl IntoIterator<Item = &'a str>) -> Key {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut key = [0; 32];
    key.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    key
}
