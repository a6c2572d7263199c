//! The calendar test: logs that live for years hold after every month, whatever was done in them and whatever was purged.
//!
//! `UNEFOIS_CALENDARS` sets how many lives are lived, `UNEFOIS_CALENDAR_MONTHS` for how many months each. A life that fails is shrunk,
//! and its seed kept in `tests/testdata/calendar.txt`, where every later run begins.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use unefois_consent::Event;
use unefois_tests::lifetime::{Act, Deed, Lifetime, MonthEnd};

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What is done in a month, and how the month ends.
#[derive(Debug, Clone)]
struct MonthOf {
    deeds: Vec<Deed>,
    ends: MonthEnd,
}

fn deed() -> impl Strategy<Value = Deed> {
    let act = (0..Act::ALL.len()).prop_map(|at| Act::ALL[at]);
    let at_the_end = prop_oneof![3 => Just(false), 1 => Just(true)];
    (act, 0..5_u8, 0..40_u8, 0..11_u8, at_the_end).prop_map(|(act, who, which, span, at_the_end)| Deed {
        act,
        who,
        which,
        span,
        at_the_end,
    })
}

fn month() -> impl Strategy<Value = MonthOf> {
    let rebuilds = prop_oneof![5 => Just(false), 1 => Just(true)];
    let closes_shard = prop_oneof![24 => Just(false), 1 => Just(true)];
    let clock_ahead = prop_oneof![24 => Just(None), 1 => (1..92_u8).prop_map(Some)];
    (proptest::collection::vec(deed(), 0..7), rebuilds, closes_shard, clock_ahead).prop_map(
        |(deeds, rebuilds, closes_shard, clock_ahead)| MonthOf {
            deeds,
            ends: MonthEnd { rebuilds, closes_shard, clock_ahead },
        },
    )
}

async fn live(months: &[MonthOf]) -> BTreeSet<u8> {
    let mut life = Lifetime::begin("2027-01".parse().unwrap()).await;
    for month in months {
        life.month(&month.deeds).await;
        life.month_ends(month.ends).await;
    }
    life.kinds()
}

#[test]
fn a_log_holds_after_every_month_of_a_life_of_years_and_a_rebuilt_state_is_the_lived_one() {
    let cases = number("UNEFOIS_CALENDARS", 8);
    let months = number("UNEFOIS_CALENDAR_MONTHS", 80) as usize;
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/calendar.txt");
    let persistence = FileFailurePersistence::Direct(Box::leak(kept.to_str().unwrap().to_owned().into_boxed_str()));
    let config = ProptestConfig {
        cases,
        max_shrink_time: 40_000,
        max_shrink_iters: 4_000,
        failure_persistence: Some(Box::new(persistence)),
        ..ProptestConfig::default()
    };
    let met = Mutex::new(BTreeSet::new());
    let lives = proptest::collection::vec(month(), months);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let lived = TestRunner::new(config).run(&lives, |months| {
        let kinds = runtime.block_on(live(&months));
        met.lock().unwrap().extend(kinds);
        Ok(())
    });
    if let Err(failure) = lived {
        panic!("{failure}");
    }
    let missing: Vec<_> =
        (0..=u8::MAX).filter(|kind| Event::is_known(*kind) && !met.lock().unwrap().contains(kind)).collect();
    let missing: Vec<_> = missing.into_iter().map(Event::kind_name).collect();
    // A few lives may lack a rare kind.
    assert!(cases < 100 || missing.is_empty(), "no life had: {missing:?}");
    println!("{cases} lives of {months} months");
}
