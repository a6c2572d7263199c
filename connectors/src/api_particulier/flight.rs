//! The same question asked twice at once goes to the API once.
//!
//! The API answers 409 to a question that is in progress with the same token and parameters, so who asks it meanwhile waits
//! for the call under way and takes its answer: same token, same administration, same person. An answer is given to those
//! who waited and to nobody later. The first call's exchange is the one whose id the API sees. Cancel-safe: where the one
//! who asks leaves, the next one asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ring::digest::{SHA256, digest};
use tokio::sync::OnceCell;

use super::answer::Said;
use crate::SourceFault;

/// What makes two questions the same one: a digest, so that nothing of the person or of a token lies about.
type Key = [u8; 32];
type Answer = OnceCell<Result<Arc<Said>, SourceFault>>;

/// Calls under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Key, Weak<Answer>>>);

impl Flights {
    /// Asks, or waits for the same question that is asked already. `url` has the parameters, `bearer` the token.
    pub(super) async fn join(
        &self,
        url: &str,
        bearer: &str,
        ask: impl AsyncFnOnce() -> Result<Said, SourceFault>,
    ) -> Result<Arc<Said>, SourceFault> {
        let key = key(url, bearer);
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

    fn seat(&self, key: Key) -> Arc<Answer> {
        let mut flights = self.locked();
        // Those whose askers all left.
        flights.retain(|_, answer| answer.strong_count() > 0);
        if let Some(answer) = flights.get(&key).and_then(Weak::upgrade) {
            return answer;
        }
        let answer = Arc::default();
        flights.insert(key, Arc::downgrade(&answer));
        answer
    }

    /// Lets nobody else in: who comes now asks anew.
    fn close(&self, key: &Key, answer: &Arc<Answer>) {
        let mut flights = self.locked();
        if flights.get(key).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(answer))) {
            flights.remove(key);
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Key, Weak<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.locked().len()
    }
}

fn key(url: &str, bearer: &str) -> Key {
    let text = zeroize::Zeroizing::new([url, bearer].join("\n"));
    let digest = digest(&SHA256, text.as_bytes());
    let mut key = [0; 32];
    key.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    key
}
