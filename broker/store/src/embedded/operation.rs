//! Every write to the disk, by name, so that a test can make each of them fail, or the process die around it.

use std::io;

/// A write to the disk, or what makes it durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Operation {
    SpareWrite,
    SpareAllocate,
    SpareSync,
    SpareRename,
    SegmentHeader,
    SegmentSync,
    SegmentRename,
    NextRename,
    NextRemove,
    TornEndKeep,
    TornEndCut,
    FrameWrite,
    FrameSync,
    TilesWrite,
    TilesSync,
    FolderSync,
    KeyWrite,
    KeySync,
    KeyRename,
    KeyRetire,
    KeyWipe,
    KeyRemove,
    HeadCreate,
    HeadWrite,
    HeadSync,
    FoldApply,
    FoldSync,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 27] = [
        Self::SpareWrite,
        Self::SpareAllocate,
        Self::SpareSync,
        Self::SpareRename,
        Self::SegmentHeader,
        Self::SegmentSync,
        Self::SegmentRename,
        Self::NextRename,
        Self::NextRemove,
        Self::TornEndKeep,
        Self::TornEndCut,
        Self::FrameWrite,
        Self::FrameSync,
        Self::TilesWrite,
        Self::TilesSync,
        Self::FolderSync,
        Self::KeyWrite,
        Self::KeySync,
        Self::KeyRename,
        Self::KeyRetire,
        Self::KeyWipe,
        Self::KeyRemove,
        Self::HeadCreate,
        Self::HeadWrite,
        Self::HeadSync,
        Self::FoldApply,
        Self::FoldSync,
    ];
}

/// Does `work`. With the feature `faults`, a plan may come in between.
pub(super) fn perform<T>(operation: Operation, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(feature = "faults")]
    return faults::around(operation, work);
    #[cfg(not(feature = "faults"))]
    {
        let _ = operation;
        work()
    }
}

/// Plans of tests. No broker is built with it.
#[cfg(feature = "faults")]
pub mod faults {
    use std::collections::BTreeMap;
    use std::io;
    use std::ops::RangeInclusive;
    use std::sync::{Mutex, PoisonError};

    use super::Operation;

    /// What happens to the operation that is planned for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Mode {
        /// It fails and does nothing.
        Fails,
        /// It fails after it was done.
        FailsButPersists,
        /// The process ends before it.
        DiesBefore,
        /// The process ends after it.
        DiesAfter,
    }

    #[derive(Debug)]
    struct Plan {
        operation: Operation,
        /// Which of its runs, from 1.
        runs: RangeInclusive<u64>,
        mode: Mode,
    }

    static PLAN: Mutex<Option<Plan>> = Mutex::new(None);
    static RUNS: Mutex<BTreeMap<Operation, u64>> = Mutex::new(BTreeMap::new());

    /// Plans for the `nth` run of `operation`, from 1, counted from the start of the process.
    pub fn plan(operation: Operation, nth: u64, mode: Mode) {
        *PLAN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Plan { operation, runs: nth..=nth, mode });
    }

    /// Plans for every run of `operation` from now on, until [`clear`].
    pub fn plan_from_now(operation: Operation, mode: Mode) {
        let next = runs().get(&operation).map_or(1, |count| count + 1);
        *PLAN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Plan { operation, runs: next..=u64::MAX, mode });
    }

    /// Forgets the plan.
    pub fn clear() {
        *PLAN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How often each operation ran.
    pub fn runs() -> BTreeMap<Operation, u64> {
        RUNS.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The exit code of a process that a plan ended.
    pub const DIED: i32 = 77;

    pub(super) fn around<T>(operation: Operation, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let run = {
            let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
            let count = runs.entry(operation).or_insert(0);
            *count += 1;
            *count
        };
        let planned = {
            let plan = PLAN.lock().unwrap_or_else(PoisonError::into_inner);
            plan.as_ref().filter(|plan| plan.operation == operation && plan.runs.contains(&run)).map(|plan| plan.mode)
        };
        let planned_fault = || io::Error::other(format!("{operation:?} fails, the plan says"));
        match planned {
            None => work(),
            Some(Mode::Fails) => Err(planned_fault()),
            Some(Mode::FailsButPersists) => work().and(Err(planned_fault())),
            Some(Mode::DiesBefore) => std::process::exit(DIED),
            Some(Mode::DiesAfter) => {
                let _ = work();
                std::process::exit(DIED)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    /// What changes a file, or makes a change durable.
    const CALLS: [&str; 12] = [
        ".write_all(",
        ".write_all_at(",
        ".sync_all()",
        ".sync_data()",
        ".set_len(",
        "fs::rename(",
        "renameat_with(",
        "fs::write(",
        "fs::remove_file(",
        "fs::remove_dir_all(",
        "= allocate(",
        ".apply_batch(",
    ];
    /// Calls that need no name of their own: in a function that is performed as a whole, or of a draft or a fold that nobody
    /// relies on.
    const WITHOUT: [(&str, &str); 7] = [
        ("tiles.rs", "return file.write_all_at(bytes, start * HASH);"),
        ("tiles.rs", "file.write_all_at(bytes, start * HASH)?;"),
        ("segment.rs", "let _ = std::fs::remove_file(&draft);"),
        ("sled.rs", "self.db.apply_batch(batch).map_err(|e| error(&e))?;"),
        ("tree.rs", "let _ = fs::write(self.folder.join(DAMAGED), b\"\");"),
        ("fold.rs", "fs::remove_dir_all(aside).map_err(|e| files::not_written(aside, &e))?;"),
        ("fold.rs", "fs::rename(folder, &aside).map_err(|e| files::not_written(&aside, &e))"),
    ];

    #[test]
    fn every_call_that_changes_a_file_is_an_operation_with_a_name() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/embedded");
        let (mut named, mut nameless) = (0, Vec::new());
        let folders = [folder.join("fold"), folder.join("journal"), folder];
        for entry in folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
            let path = entry.unwrap().path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".rs"))
            else {
                continue;
            };
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let mut before = "";
            for line in code.lines() {
                if CALLS.iter().any(|call| line.contains(call)) {
                    // `perform` stands before it, or ends the line before.
                    if line.contains("perform(") || (before.contains("perform(") && before.ends_with('{')) {
                        named += 1;
                    } else {
                        nameless.push((name.to_owned(), line.trim().to_owned()));
                    }
                }
                before = line;
            }
        }
        nameless.retain(|(file, line)| !WITHOUT.contains(&(file.as_str(), line.as_str())));
        assert!(nameless.is_empty(), "a fault cannot be planned for: {nameless:#?}");
        assert!(named >= 20, "only {named} calls were found: does the test still know where they are?");
    }
}
