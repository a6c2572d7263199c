//! Looks whether the files of the store are still where they were. A file that is removed under a running process takes all that
//! is written to it, and nobody sees it again. So the engine halts within about a second.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::EngineParts;
use crate::halt::Halt;
use crate::store::{HeadFile, Journal, RecordKeys, StoreError};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Watch {
    journal: Arc<dyn Journal>,
    keys: Arc<dyn RecordKeys>,
    head: Arc<dyn HeadFile>,
    halt: Arc<Halt>,
    closing: Mutex<bool>,
    wake: Condvar,
}

impl Watch {
    pub(crate) fn new(parts: &EngineParts, halt: &Arc<Halt>) -> Self {
        let (journal, keys, head) = (Arc::clone(&parts.journal), Arc::clone(&parts.keys), Arc::clone(&parts.head));
        Self { journal, keys, head, halt: Arc::clone(halt), closing: Mutex::new(false), wake: Condvar::new() }
    }

    /// The thread's work, until [`Watch::close`] or until something is not in its place.
    pub(crate) fn run(&self) {
        while !self.wait() {
            match self.look() {
                // What cannot be told now is told at the next look, or by whoever reads or writes.
                Ok(()) | Err(StoreError::Read(_)) => {}
                Err(error) => return self.halt.halt(error.to_string()),
            }
        }
    }

    fn look(&self) -> Result<(), StoreError> {
        self.journal.check_in_place()?;
        self.keys.check_in_place()?;
        self.head.check_in_place()
    }

    /// Waits for the next look; says whether the thread ends.
    fn wait(&self) -> bool {
        let closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.wake.wait_timeout_while(closing, LOOK_EVERY, |closing| !*closing);
        let (closing, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *closing
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        *self.closing.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }
}
