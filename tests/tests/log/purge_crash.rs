//! A purge while any operation on the disk fails, or is the last one before or after which the process dies: opened again, the
//! purge ends, what has effect has it still, each period is covered once, and the log replays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois::config::Loaded;
use unefois_consent::RecordPeriod;
use unefois_consent::event::{Carried, CarriedFact, Event};
use unefois_consent::registry::Role;
use unefois_engine::store::RecordKeys;
use unefois_engine::{Engine, EngineError, ManualClock};
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_store::Options;
use unefois_store::embedded::FileKeys;
use unefois_store::embedded::faults::{Mode, runs};
use unefois_tests::ask::{ALLOWANCE, allowance, canteen, grant_on};
use unefois_tests::caller::{department, exchange_call};
use unefois_tests::sandbox::Sandbox;
use unefois_tests::{copy_folder, world, writers};

use super::planned::{self, MODES, exit_code, lines, ran};
use super::purge::{for_long, middle, records, subjects_of, today};

const CONSENT: &str = "UNEFOIS_CASE_CONSENT";
const FAILS_AT: &str = "UNEFOIS_CASE_FAILS_AT";
const DAYS: &str = "UNEFOIS_CASE_DAYS";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// So many months does the department keep its traces.
const SHORT: u8 = 3;
/// The first exchanges are over now, and those of the department from [`SHORT`] months and one before.
const NOW: u32 = 37;
const PERSONS: usize = 40;

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn name(n: usize) -> String {
    format!("PERSONNE {}", char::from(b'A' + u8::try_from(n % 26).unwrap()).to_string().repeat(1 + n / 26))
}

/// What the plan of a case is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailsAt {
    /// The purge.
    Purge,
    /// The start after a crash, and the purge that follows.
    Start,
}

impl FailsAt {
    /// Days between the first start that may purge and this one.
    fn days(self) -> u32 {
        match self {
            Self::Purge => 0,
            Self::Start => 2,
        }
    }
}

/// A consent that may be used once, and was.
async fn used_up(engine: &Engine) -> String {
    let once = grant_on("MARCHAND", |terms| {
        terms.expires_at = Some(wire_instant(middle(NOW + 20)));
        terms.r#use = v1::ConsentUse::OneTime as i32;
    });
    let recorded = engine.record_consent(writers::record_call(department(engine), &once), deadline()).await;
    let consent = recorded.unwrap().consent.id.to_string();
    let used = exchange_call(department(engine), allowance("MARCHAND", Some(&consent)), deadline());
    engine.exchange(used).await.unwrap();
    consent
}

/// What a consent that was used up says when it is used again.
async fn again(engine: &Engine, consent: &str) -> String {
    match engine.exchange(exchange_call(department(engine), allowance("MARCHAND", Some(consent)), deadline())).await {
        Err(EngineError::Refused(refused)) => refused.refusal.reasons()[0].code().to_owned(),
        other => format!("{other:?}"),
    }
}

/// The process of one case; not a test by itself. It purges, and says what then is.
#[test]
#[ignore = "started by the test of purges with a plan"]
fn case() {
    let Some(folder) = planned::folder() else { return };
    let fails_at_start = std::env::var(FAILS_AT).is_ok_and(|at| at == format!("{:?}", FailsAt::Start));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let before = runs();
        if fails_at_start {
            planned::from_now();
        }
        let days: u32 = std::env::var(DAYS).unwrap().parse().unwrap();
        let clock = Arc::new(ManualClock::new(middle(NOW).plus(DAY * days)));
        let options = Options { segment_bytes: 1 << 20, min_free_bytes: 0, ..Options::default() };
        let opened = writers::open_by(clock.clone(), &folder, &folder.join("data"), &options, |fold| fold).await;
        let (store, engine) = match opened {
            Ok(opened) => opened,
            Err(error) => return println!("not opened: {error}"),
        };
        let before = if fails_at_start { before } else { runs() };
        // The clock of a machine that started is not believed at once.
        clock.advance(DAY + Duration::from_secs(60));
        if !fails_at_start {
            planned::from_now();
        }
        match engine.purge().await {
            Ok(purged) => println!("purged {} {}", purged.periods.len(), purged.carried),
            Err(error) => println!("not purged: {error}"),
        }
        println!("again {}", again(&engine, &std::env::var(CONSENT).unwrap()).await);
        writers::close(store, engine).await;
        planned::say_ran(&before);
    });
}

/// A broker's folder, when it is time for a purge.
struct Old {
    sandbox: Sandbox,
    consent: String,
    /// Before which entries the purge comes.
    entries: BTreeMap<u64, String>,
    due: BTreeSet<RecordPeriod>,
}

impl Old {
    async fn make() -> Self {
        let clock = Arc::new(ManualClock::new(middle(0)));
        let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
        sandbox
            .change_registry(|file| {
                for_long(file);
                for procedure in &mut file.procedures {
                    if procedure.id.as_str() == ALLOWANCE {
                        procedure.consent_max_days = 1_000;
                        (procedure.trace_months, procedure.trace_article) = (SHORT, "fictitious art. 1".to_owned());
                    }
                }
            })
            .await;
        let engine = Arc::clone(sandbox.broker().engine());
        let ville = sandbox.caller("ville", Role::Exchange);
        let mut consent = None;
        for month in 0..=NOW {
            clock.set(middle(month));
            if month < NOW {
                assert_eq!(engine.purge().await.unwrap().periods, [], "{month}");
            }
            // Whom the town hall asks about again is carried over.
            let asked = if [0, NOW - 1].contains(&month) { PERSONS } else { 2 };
            for n in 0..asked {
                let question = today(canteen(&name(n)), middle(month));
                engine.exchange(exchange_call(ville.clone(), question, deadline())).await.unwrap();
            }
            if month + u32::from(SHORT) + 1 == NOW {
                consent = Some(used_up(&engine).await);
            }
        }
        drop(engine);
        sandbox.stop().await;
        let keys = FileKeys::open(&sandbox.data().join("keys")).unwrap().periods().unwrap();
        let due = keys.into_iter().filter(|period| period.is_over(middle(NOW).month())).collect();
        let entries = world::commitments(&sandbox.data());
        Self { sandbox, consent: consent.unwrap(), entries, due }
    }

    /// A start `days` after the first one that may purge.
    fn run_case(&self, folder: &Path, days: u32, fails_at: FailsAt, planned: Option<&str>) -> (Option<i32>, String) {
        let settings = [(CONSENT, self.consent.clone()), (FAILS_AT, format!("{fails_at:?}")), (DAYS, days.to_string())];
        planned::process("purge_crash::case", folder, &settings, planned)
    }

    /// After another start the purge is there as a whole, and what has effect has it.
    fn look(&self, folder: &Path, case: &str) {
        let (code, said) = self.run_case(folder, 4, FailsAt::Purge, None);
        assert_eq!(code, Some(0), "{case}: {said}");
        assert_eq!(lines(&said, "purged ").count(), 1, "{case}: {said}");
        assert_eq!(lines(&said, "again ").next(), Some("CONSENT_USED"), "{case}");
        let data = folder.join("data");
        let entries = world::commitments(&data);
        assert!(
            self.entries.iter().all(|(index, entry)| entries.get(index) == Some(entry)),
            "{case}: an entry changed"
        );
        let keys = std::fs::read_dir(data.join("keys/records")).unwrap().map(|file| file.unwrap().file_name());
        let keys: BTreeSet<String> = keys.map(|name| name.into_string().unwrap()).collect();
        assert!(keys.iter().all(|name| name.ends_with(".key")), "{case}: {keys:?}");
        assert!(self.due.iter().all(|due| !keys.contains(&format!("{due}.key"))), "{case}: {keys:?}");
        let records = records(&data);
        let covered = records.iter().filter_map(|(_, event)| match event {
            Some(Event::Purged(purged)) => Some(&purged.periods),
            _ => None,
        });
        let covered: Vec<RecordPeriod> = covered.flatten().map(|covered| covered.period).collect();
        for due in &self.due {
            assert_eq!(covered.iter().filter(|period| *period == due).count(), 1, "{case}: {due}");
        }
        let uses = records.iter().filter_map(|(_, event)| match event {
            Some(Event::Carried(Carried { fact: CarriedFact::Uses(uses), .. })) => Some(uses.consent.to_string()),
            _ => None,
        });
        assert!(uses.into_iter().any(|consent| consent == self.consent), "{case}: the use was not carried over");
        assert!(subjects_of(&records).len() <= PERSONS, "{case}: a person got a second reference");
        let key = Loaded::open(&folder.join("unefois.toml")).unwrap().signer.verifier_key().clone();
        world::check(&data, &key);
    }

    /// All that a run in a copy of `from` does, with each mode.
    fn cases(&self, root: &Path, from: &Path, fails_at: FailsAt) -> Vec<(String, u64, Mode)> {
        let rehearsal = root.join("rehearsal");
        copy_folder(from, &rehearsal);
        let (code, said) = self.run_case(&rehearsal, fails_at.days(), fails_at, None);
        assert_eq!(code, Some(0), "{said}");
        self.look(&rehearsal, "nothing fails");
        std::fs::remove_dir_all(&rehearsal).unwrap();
        let ran = ran(&said).into_iter();
        ran.flat_map(|(operation, count)| {
            (1..=count).flat_map(move |nth| MODES.map(|mode| (operation.clone(), nth, mode)))
        })
        .collect()
    }

    fn walk(&self, root: &Path, from: &Path, fails_at: FailsAt, cases: &[(String, u64, Mode)]) {
        planned::each(cases, root, |(operation, nth, mode), folder| {
            let case = format!("{operation} {nth} {mode:?}");
            copy_folder(from, folder);
            let (code, said) = self.run_case(folder, fails_at.days(), fails_at, Some(&case));
            // The fold and the number of steps go their own pace.
            assert!(code == Some(exit_code(*mode)) || *nth > 1 || operation.starts_with("Fold"), "{case}: {said}");
            self.look(folder, &case);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_ends_whatever_fails_and_what_has_effect_keeps_it() {
    let old = Old::make().await;
    assert_eq!(old.due.len(), 2, "{:?}", old.due);
    let root = tempfile::tempdir().unwrap();
    let from = old.sandbox.folder.path.clone();
    let cases = old.cases(root.path(), &from, FailsAt::Purge);
    let met: BTreeSet<&str> = cases.iter().map(|(operation, ..)| operation.as_str()).collect();
    for needed in
        ["FrameWrite", "FrameSync", "HeadWrite", "HeadSync", "KeyRetire", "KeyWipe", "KeyRemove", "FolderSync"]
    {
        assert!(met.contains(needed), "{needed} is not met: {met:?}");
    }
    old.walk(root.path(), &from, FailsAt::Purge, &cases);

    // The purge is in the log and the keys are there: the next start destroys them, whatever happens then.
    let mut count = cases.len();
    for crash in ["KeyRetire 1 DiesBefore", "KeyWipe 1 DiesBefore", "KeyRemove 2 DiesBefore"] {
        let left = root.path().join("left");
        copy_folder(&from, &left);
        assert_eq!(old.run_case(&left, 0, FailsAt::Purge, Some(crash)).0, Some(exit_code(Mode::DiesBefore)), "{crash}");
        let mut cases = old.cases(root.path(), &left, FailsAt::Start);
        cases.retain(|(operation, ..)| operation.starts_with("Key"));
        assert!(!cases.is_empty(), "{crash}");
        old.walk(root.path(), &left, FailsAt::Start, &cases);
        std::fs::remove_dir_all(&left).unwrap();
        count += cases.len();
    }
    println!("{count} cases");
    old.sandbox.finish().await;
}
