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
    HeadWrite,
    HeadSync,
    FoldApply,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 21] = [
        Self::SpareWrite,
        Self::SpareAllocate,
        Self::SpareSync,
        Self::SpareRename,
        Self::SegmentHeader,
        Self::SegmentSync,
        Self::SegmentRename,
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
        Self::HeadWrite,
        Self::HeadSync,
        Self::FoldApply,
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
        nth: u64,
        mode: Mode,
    }

    static PLAN: Mutex<Option<Plan>> = Mutex::new(None);
    static RUNS: Mutex<BTreeMap<Operation, u64>> = Mutex::new(BTreeMap::new());

    /// Plans for the `nth` run of `operation`, from 1, counted from the start of the process.
    pub fn plan(operation: Operation, nth: u64, mode: Mode) {
        *PLAN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Plan { operation, nth, mode });
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
            plan.as_ref().filter(|plan| plan.operation == operation && plan.nth == run).map(|plan| plan.mode)
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
