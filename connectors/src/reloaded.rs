//! A value read from a file that is read anew when the file changes.
//!
//! The file is looked at once a second at most, and only when the value is asked for: the question that is due waits
//! for the look (and for the load, if the file changed), so that a broker asked once a day still answers from the file
//! as it is; questions beside it go on with the value at hand. A file that cannot be loaded leaves the old value in
//! place and is told to the operator once. Deliberately absent: file system notification, which network file systems
//! and container mounts do not give.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::files::{FileStamp, Seen};

/// Shortest time between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a file cannot be used. Says where and which rule it breaks, never what the file holds.
pub(crate) type Load<T> = fn(&Path, &T) -> Result<T, String>;

/// A value and the file it comes from. Cheap to clone.
pub(crate) struct Reloaded<T>(Arc<Inner<T>>);

struct Inner<T> {
    path: PathBuf,
    load: Load<T>,
    current: ArcSwap<T>,
    born: Instant,
    /// Milliseconds after `born` from which the next look is due.
    due_ms: AtomicU64,
    /// What was loaded and what was refused last.
    seen: Mutex<Seen>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Loads the file now. `load` is given the value before, from which it may take its settings.
    pub(crate) fn open(path: &Path, settings: &T, load: Load<T>) -> Result<Self, String> {
        // ORDER: the stamp before the content, so that a change in between is seen at the next look.
        let seen = Seen::used(FileStamp::of(path));
        let value = load(path, settings)?;
        Ok(Self(Arc::new(Inner {
            path: path.to_owned(),
            load,
            current: ArcSwap::from_pointee(value),
            born: Instant::now(),
            due_ms: AtomicU64::new(millis(LOOK_EVERY)),
            seen: Mutex::new(seen),
        })))
    }

    /// The value as the file is now, or was within the last second. Cancel-safe: a load that has begun is finished.
    pub(crate) async fn get(&self) -> Arc<T> {
        if self.0.is_due() {
            let inner = Arc::clone(&self.0);
            // A look that panicked leaves the value at hand.
            let _ = tokio::task::spawn_blocking(move || inner.look()).await;
        }
        self.0.current.load_full()
    }
}

impl<T> Inner<T> {
    /// Whether a look is due and this caller is the one to do it.
    fn is_due(&self) -> bool {
        let now = millis(self.born.elapsed());
        let due = self.due_ms.load(Ordering::Relaxed);
        let next = now.saturating_add(millis(LOOK_EVERY));
        now >= due && self.due_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn look(&self) {
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A look still hangs, on a dead network disk for one: threads must not pile up behind it.
            Err(TryLockError::WouldBlock) => return,
        };
        let now = FileStamp::of(&self.path);
        if seen.is_used(now) {
            return;
        }
        let path = self.path.display();
        match (self.load)(&self.path, &self.current.load()) {
            Ok(value) => {
                self.current.store(Arc::new(value));
                *seen = Seen::used(now);
                tracing::info!(%path, "a file changed and was read again");
            }
            Err(problem) if seen.refuse(now) => {
                tracing::error!(%path, problem, "a changed file is not usable; the old content stays in use");
            }
            // It was told; a read that failed by chance is tried again at the next look.
            Err(_) => {}
        }
    }
}

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloaded").field(&self.0.path).finish()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;

    use super::*;
    use crate::testing::logs::Logs;

    /// Text that begins with "slow" is not there before the file `go` is.
    fn read(path: &Path, _: &String) -> Result<String, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {}", e.kind()))?;
        let started = std::time::Instant::now();
        while text.starts_with("slow") && !path.with_extension("go").exists() {
            assert!(started.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        if text.starts_with("bad") { Err("begins with bad".to_owned()) } else { Ok(text) }
    }

    fn open(content: &str) -> (tempfile::TempDir, PathBuf, Reloaded<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, content).unwrap();
        let reloaded = Reloaded::open(&path, &String::new(), read).unwrap();
        (dir, path, reloaded)
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_told_once_and_a_good_one_ends_it() {
        let (logs, _capture) = Logs::capture();
        let (_dir, path, file) = open("one");
        let look = |content: &str| {
            std::fs::write(&path, content).unwrap();
            for _ in 0..3 {
                file.0.look();
            }
            file.0.current.load_full().to_string()
        };
        assert_eq!(look("bad and secret"), "one");
        assert_eq!(look("two"), "two");
        std::fs::remove_file(&path).unwrap();
        file.0.look();
        file.0.look();
        let text = logs.text();
        assert_eq!(text.matches("not usable").count(), 2, "{text}");
        assert_eq!(text.matches("was read again").count(), 1, "{text}");
        assert!(!text.contains("secret"));
    }

    #[tokio::test]
    async fn a_read_that_failed_by_chance_is_tried_again_though_the_file_stays_as_it_is() {
        static FAILS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        fn read(path: &Path, _: &String) -> Result<String, String> {
            if FAILS.load(Ordering::Relaxed) {
                Err("input/output error".to_owned())
            } else {
                super::tests::read(path, &String::new())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let file = Reloaded::open(&path, &String::new(), read).unwrap();
        std::fs::write(&path, "another").unwrap();
        for (fails, expected) in [(true, "one"), (false, "another")] {
            FAILS.store(fails, Ordering::Relaxed);
            file.0.look();
            assert_eq!(*file.0.current.load_full(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_a_second_looks_and_the_others_go_on() {
        let (_dir, path, file) = open("one");
        std::fs::write(&path, "slow two").unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        let mut first = Box::pin(file.get());
        assert!(poll_immediate(&mut first).await.is_none(), "the first waits for the look");
        let beside = poll_immediate(Box::pin(file.get())).await;
        assert_eq!(*beside.unwrap(), "one", "another does not wait");
        std::fs::write(path.with_extension("go"), "").unwrap();
        assert_eq!(*first.await, "slow two");
        assert_eq!(*file.get().await, "slow two");
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::await_holding_lock, reason = "the look that hangs")]
    async fn a_look_that_hangs_holds_up_no_later_caller() {
        let (_dir, path, file) = open("one");
        std::fs::write(&path, "second").unwrap();
        let hanging = file.0.seen.lock().unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        let read = tokio::time::timeout(Duration::from_secs(60), file.get()).await;
        assert_eq!(*read.unwrap(), "one");
        drop(hanging);
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(*file.get().await, "second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_was_begun_is_finished_though_its_caller_left() {
        let (_dir, path, file) = open("one");
        std::fs::write(&path, "slow two").unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        let mut first = Box::pin(file.get());
        assert!(poll_immediate(&mut first).await.is_none());
        drop(first);
        std::fs::write(path.with_extension("go"), "").unwrap();
        let started = std::time::Instant::now();
        while *file.get().await != "slow two" {
            assert!(started.elapsed() < Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
    }
}
