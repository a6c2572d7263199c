//! All that is logged on this thread, in text, so that a test can say what is not in it.
//!
//! One subscriber serves the whole process: with one for each test, a callsite that another thread met first would stay
//! switched off here, and a test would find nothing in an empty log.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, Once};

use tracing::level_filters::LevelFilter;

thread_local! {
    static CAPTURED: RefCell<Option<Logs>> = const { RefCell::new(None) };
}

/// What was logged since it was made.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Vec<u8>>>);

/// Ends the capture when dropped.
pub(crate) struct Capture;

impl Drop for Capture {
    fn drop(&mut self) {
        CAPTURED.set(None);
    }
}

impl Logs {
    /// Captures every event of this thread, the libraries' TRACE included, until the guard is dropped.
    pub(crate) fn capture() -> (Self, Capture) {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(LevelFilter::TRACE)
                .with_ansi(false)
                // The digits of a clock look like a birth year now and then.
                .without_time()
                .with_writer(|| CAPTURED.with_borrow(Clone::clone).unwrap_or_default())
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        let logs = Self::default();
        CAPTURED.set(Some(logs.clone()));
        (logs, Capture)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
