//! Cases in each of which one operation on the disk fails, or is the last one before or after which the process dies. Each case is
//! a process of its own: this test program, started again with a plan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use unefois_store::embedded::Operation;
use unefois_store::embedded::faults::{DIED, Mode, plan, runs};

pub(crate) const MODES: [Mode; 4] = [Mode::Fails, Mode::FailsButPersists, Mode::DiesBefore, Mode::DiesAfter];
/// Cases that run beside each other.
const AT_ONCE: usize = 4;
const FOLDER: &str = "UNEFOIS_CASE_FOLDER";
const PLAN: &str = "UNEFOIS_CASE_PLAN";

/// The exit code of a process in which an operation meets `mode`.
pub(crate) fn exit_code(mode: Mode) -> i32 {
    if matches!(mode, Mode::DiesBefore | Mode::DiesAfter) { DIED } else { 0 }
}

/// The folder of the case, in its process; `None` where this is no process of a case.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Plans what the case says, `OPERATION NTH MODE`, for the operations from now on.
pub(crate) fn from_now() {
    let Ok(planned) = std::env::var(PLAN) else { return };
    let parts: Vec<&str> = planned.split(' ').collect();
    let operation = Operation::ALL.into_iter().find(|operation| format!("{operation:?}") == parts[0]).unwrap();
    let mode = MODES.into_iter().find(|mode| format!("{mode:?}") == parts[2]).unwrap();
    let so_far = runs().get(&operation).copied().unwrap_or_default();
    plan(operation, so_far + parts[1].parse::<u64>().unwrap(), mode);
}

/// Says how often each operation ran since `before`, in a line that [`ran`] reads.
pub(crate) fn say_ran(before: &BTreeMap<Operation, u64>) {
    let since = runs().into_iter().filter_map(|(operation, count)| {
        let count = count - before.get(&operation).copied().unwrap_or_default();
        (count > 0).then(|| format!("{operation:?}={count}"))
    });
    println!("ran {}", since.collect::<Vec<_>>().join(" "));
}

/// How often each operation ran in a case without a plan.
pub(crate) fn ran(said: &str) -> BTreeMap<String, u64> {
    let line = lines(said, "ran ").next().expect("the case did not end");
    line.split(' ').map(|one| one.split_once('=').unwrap()).map(|(name, n)| (name.into(), n.parse().unwrap())).collect()
}

/// What the process of a case in `folder` said, and its exit code. `test` is the function of the case.
pub(crate) fn process(
    test: &str,
    folder: &Path,
    settings: &[(&str, String)],
    planned: Option<&str>,
) -> (Option<i32>, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(FOLDER, folder);
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    if let Some(planned) = planned {
        command.env(PLAN, planned);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The rest of each line that begins with `prefix`.
pub(crate) fn lines<'a>(said: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    said.lines().filter_map(move |line| line.strip_prefix(prefix))
}

/// Numbers, and what is said of each, from lines `PREFIX NUMBER WORD`.
pub(crate) fn numbered(said: &str, prefix: &str) -> BTreeMap<u64, String> {
    let pairs = lines(said, prefix).map(|line| line.split_once(' ').unwrap());
    pairs.map(|(number, word)| (number.parse().unwrap(), word.to_owned())).collect()
}

/// Does `one` for each of `cases`, several at once, each in a folder below `root` that is not there before and goes after it.
pub(crate) fn each<T: Sync>(cases: &[T], root: &Path, one: impl Fn(&T, &Path) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (next, one, folder) = (&next, &one, root.join(format!("case-{worker}")));
            scope.spawn(move || {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(case, &folder);
                    std::fs::remove_dir_all(&folder).unwrap();
                }
            });
        }
    });
}
