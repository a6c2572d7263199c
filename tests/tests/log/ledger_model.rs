//! Random lives of consents, mandates and objections against an oracle that knows nothing of the broker's code.
//!
//! Each case is one person in a real engine whose store is in memory: what it decides is what the oracle says, at every step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use unefois::config::Loaded;
use unefois::init::{Layout, init};
use unefois_consent::event::Decision;
use unefois_consent::{ConsentId, Ground, MandateId, Timestamp};
use unefois_engine::consents::{DecideCall, Indication, MandateCall, RenewCall, Standing};
use unefois_engine::{Engine, EngineError, EngineParts, ExchangeCall, ManualClock, VerifiedParticipant};
use unefois_proto::common::identity;
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_store::MemoryStore;
use unefois_tests::ask::{allowance, grant, person};
use unefois_tests::caller::{department, exchange_call};
use unefois_tests::writers::record_call;

const HOUR: u64 = 3_600_000;

#[derive(Debug, Clone)]
enum Op {
    /// How often (0: once, 255: repeated, else so often an hour), starts in, lasts, in hours; under the mandate.
    Record {
        often: u8,
        starts: u64,
        lasts: u64,
        mandate: bool,
    },
    Decide {
        which: usize,
        decision: u8,
    },
    Renew {
        which: usize,
        lasts: u64,
    },
    Mandate {
        lasts: u64,
    },
    EndMandate,
    Wait {
        ms: u64,
    },
    /// The consent, or the newest that passes; acting under the mandate.
    Use {
        which: Option<usize>,
        acting: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let hours = || prop_oneof![Just(1_u64), Just(2), Just(3), Just(48)];
    prop_oneof![
        4 => (prop_oneof![Just(0_u8), Just(255), 1..4_u8], 0..2_u64, hours(), any::<bool>())
            .prop_map(|(often, starts, lasts, mandate)| Op::Record { often, starts, lasts, mandate }),
        4 => (0..4_usize, 0..4_u8).prop_map(|(which, decision)| Op::Decide { which, decision }),
        1 => (0..4_usize, hours()).prop_map(|(which, lasts)| Op::Renew { which, lasts }),
        1 => hours().prop_map(|lasts| Op::Mandate { lasts }),
        1 => Just(Op::EndMandate),
        3 => prop_oneof![Just(1_u64), Just(HOUR - 1), Just(HOUR), 1..3 * HOUR].prop_map(|ms| Op::Wait { ms }),
        8 => (proptest::option::of(0..4_usize), prop_oneof![4 => Just(false), 1 => Just(true)])
            .prop_map(|(which, acting)| Op::Use { which, acting }),
    ]
}

/// What the oracle remembers of a consent: plain numbers and words.
#[derive(Clone)]
struct Known {
    id: ConsentId,
    word: &'static str,
    often: u8,
    from: u64,
    until: u64,
    mandate: bool,
    /// Uses by hour since `from`.
    used: BTreeMap<u64, u32>,
}

/// The oracle. Times are milliseconds.
#[derive(Default)]
struct Oracle {
    /// Newest last.
    consents: Vec<Known>,
    mandate: Option<(MandateId, u64, bool)>,
}

impl Oracle {
    /// Why the mandate does not count at `now`.
    fn mandate_faults(&self, now: u64) -> Vec<&'static str> {
        let Some((_, until, ended)) = self.mandate else { return vec!["MANDATE_MISSING"] };
        let mut faults = Vec::new();
        if ended {
            faults.push("MANDATE_ENDED");
        }
        if now >= until {
            faults.push("MANDATE_EXPIRED");
        }
        faults
    }

    fn faults(&self, consent: &Known, now: u64) -> Vec<&'static str> {
        let mut faults = Vec::new();
        match consent.word {
            "paused" => faults.push("CONSENT_PAUSED"),
            "withdrawn" => faults.push("CONSENT_WITHDRAWN"),
            "invalid" => faults.push("CONSENT_INVALIDATED"),
            _ => {}
        }
        if now < consent.from {
            faults.push("CONSENT_NOT_YET_VALID");
        }
        if now >= consent.until {
            faults.push("CONSENT_EXPIRED");
        }
        if consent.often == 0 && !consent.used.is_empty() {
            faults.push("CONSENT_USED");
        }
        let hour = now.saturating_sub(consent.from) / HOUR;
        let used = consent.used.get(&hour).copied().unwrap_or(0);
        if (1..255).contains(&consent.often) && used >= u32::from(consent.often) {
            faults.push("CONSENT_FREQUENCY");
        }
        if consent.mandate {
            faults.extend(self.mandate_faults(now));
        }
        faults
    }

    /// What a use at `now` comes to: no fault, or all of them in order.
    fn use_one(&mut self, which: Option<usize>, acting: bool, now: u64) -> Vec<&'static str> {
        let tried: Vec<usize> = match which {
            Some(which) => (0..self.consents.len()).filter(|n| *n == which).collect(),
            None => (0..self.consents.len()).rev().collect(),
        };
        let passing = tried.iter().copied().find(|n| self.faults(&self.consents[*n], now).is_empty());
        let mut faults = match (passing, tried.first()) {
            (Some(_), _) => Vec::new(),
            (None, Some(first)) => self.faults(&self.consents[*first], now),
            (None, None) => vec!["CONSENT_MISSING"],
        };
        if acting {
            // A fault is told once, also where the consent rests on the same mandate.
            faults.retain(|fault| !fault.starts_with("MANDATE"));
            faults.extend(self.mandate_faults(now));
        }
        if let (true, Some(n)) = (faults.is_empty(), passing) {
            let consent = &mut self.consents[n];
            *consent.used.entry((now - consent.from) / HOUR).or_default() += 1;
        }
        faults
    }
}

/// A real engine, and whoever calls it.
struct World {
    runtime: tokio::runtime::Runtime,
    engine: Arc<Engine>,
    clock: Arc<ManualClock>,
    caller: VerifiedParticipant,
    persons: AtomicUsize,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout { api_particulier: "http://127.0.0.1:9".to_owned(), ..Layout::development() };
        let made = init(&folder.path().join("broker"), &layout).unwrap();
        let loaded = Loaded::open(&made.config()).unwrap();
        let memory = Arc::new(MemoryStore::default());
        let clock = Arc::new(ManualClock::new(unefois_engine::Clock::now(&unefois_engine::SystemClock)));
        let parts = EngineParts {
            journal: memory.clone(),
            fold: memory.clone(),
            keys: memory.clone(),
            head: memory,
            signer: loaded.signer,
            clock: clock.clone(),
            // What a source says is not the question here: each is down.
            sources: BTreeMap::new(),
            first_registry: loaded.registry,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let engine = Arc::new(runtime.block_on(Engine::open(parts, &mut |_, _| {})).unwrap());
        let caller = department(&engine);
        Self { runtime, engine, clock, caller, persons: AtomicUsize::new(0), _folder: folder }
    }

    fn now(&self) -> u64 {
        unefois_engine::Clock::now(&*self.clock).as_millis()
    }
}

fn in_hours(now: u64, hours: u64) -> u64 {
    now + hours * HOUR
}

async fn play(world: &World, ops: &[Op]) {
    let number = world.persons.fetch_add(1, Ordering::Relaxed);
    let letters: String =
        (0..4).map(|place| char::from(b'A' + u8::try_from(number / 26_usize.pow(place) % 26).unwrap())).collect();
    let name = format!("PERSONNE {letters}");
    let deadline = Instant::now() + Duration::from_secs(30);
    let (engine, caller, mut oracle) = (&world.engine, &world.caller, Oracle::default());
    for (at, op) in ops.iter().enumerate() {
        let now = world.now();
        match op {
            Op::Wait { ms } => world.clock.advance(Duration::from_millis(*ms)),
            Op::Record { often, starts, lasts, mandate } => {
                let mut wanted = grant(&name);
                let terms = wanted.terms.as_mut().unwrap();
                let (from, until) = (in_hours(now, *starts), in_hours(now, starts + lasts));
                terms.not_before = Some(wire_instant(Timestamp::from_millis(from)));
                terms.expires_at = Some(wire_instant(Timestamp::from_millis(until)));
                terms.r#use = match often {
                    0 => v1::ConsentUse::OneTime,
                    255 => v1::ConsentUse::Repeated,
                    _ => v1::ConsentUse::Periodic,
                } as i32;
                if (1..255).contains(often) {
                    terms.frequency = Some(v1::Frequency { times: u32::from(*often), per: v1::TimeUnit::Hour as i32 });
                }
                let by = if *mandate { oracle.mandate } else { None };
                wanted.mandate_id = by.map(|(id, ..)| id.to_string()).unwrap_or_default();
                let allowed = by.is_none_or(|(_, end, _)| until <= end && oracle.mandate_faults(now).is_empty());
                let found = engine.record_consent(record_call(caller.clone(), &wanted), deadline).await;
                assert_eq!(found.is_ok(), allowed, "{at}: {op:?}");
                if let Ok(found) = found {
                    let (id, mandate) = (found.consent.id, by.is_some());
                    let used = BTreeMap::new();
                    oracle.consents.push(Known { id, word: "given", often: *often, from, until, mandate, used });
                }
                // The order of consents of one millisecond is that of their ids.
                world.clock.advance(Duration::from_millis(1));
            }
            Op::Decide { which, decision } => {
                let Some(known) = oracle.consents.get_mut(*which) else { continue };
                let (decision, next) = match (decision, known.word) {
                    (0, "given") if now < known.until => (Decision::Pause, Some("paused")),
                    (0, "paused") => (Decision::Pause, Some("paused")),
                    (0, _) => (Decision::Pause, None),
                    (1, "given" | "paused") => (Decision::Resume, Some("given")),
                    (1, _) => (Decision::Resume, None),
                    (2, "given" | "paused" | "withdrawn") => (Decision::Withdraw, Some("withdrawn")),
                    (2, _) => (Decision::Withdraw, None),
                    (_, "given" | "paused" | "invalid") => (Decision::Invalidate, Some("invalid")),
                    (_, _) => (Decision::Invalidate, None),
                };
                let standing = Standing::Backend(caller.clone());
                let call = DecideCall { standing, consent: known.id, decision, evidence: None };
                assert_eq!(engine.decide_consent(call, deadline).await.is_ok(), next.is_some(), "{at}: {op:?}");
                known.word = next.unwrap_or(known.word);
            }
            Op::Renew { which, lasts } => {
                let Some(known) = oracle.consents.get_mut(*which) else { continue };
                let until = in_hours(now, *lasts);
                let call = RenewCall {
                    standing: Standing::Backend(caller.clone()),
                    agent: "agent-7".to_owned(),
                    consent: known.id,
                    notice_version: 1,
                    language: unefois_consent::Language::Fr,
                    expires_at: Timestamp::from_millis(until),
                    indication: Indication {
                        channel: unefois_consent::Channel::Counter,
                        evidence: None,
                        assurance: None,
                        mandate: None,
                    },
                };
                let allowed = ["given", "paused"].contains(&known.word);
                assert_eq!(engine.renew_consent(call, deadline).await.is_ok(), allowed, "{at}: {op:?}");
                if allowed {
                    // So often an hour: the hours go on.
                    let goes_on = (1..255).contains(&known.often) && known.from <= now;
                    let (from, used) = if goes_on { (known.from, known.used.clone()) } else { (now, BTreeMap::new()) };
                    let renewed = Known { word: "given", from, until, mandate: false, used, ..known.clone() };
                    // Given anew, it is the newest.
                    oracle.consents.remove(*which);
                    oracle.consents.push(renewed);
                    world.clock.advance(Duration::from_millis(1));
                }
            }
            Op::Mandate { lasts } => {
                let end = in_hours(now, *lasts);
                let call = MandateCall {
                    caller: caller.clone(),
                    agent: "agent-7".to_owned(),
                    principal: identity("principal", Some(&person(&name))).unwrap(),
                    representative: identity("representative", Some(&person("TUTEUR"))).unwrap(),
                    kind: unefois_consent::MandateKind::Mandatary,
                    procedures: std::collections::BTreeSet::new(),
                    proof: unefois_consent::Digest([7; 32]),
                    not_before: None,
                    expires_at: Some(Timestamp::from_millis(end)),
                };
                // One mandate a person: the consents of the first stay with it.
                if oracle.mandate.is_none() {
                    let mandate = engine.record_mandate(call, deadline).await.unwrap();
                    oracle.mandate = Some((mandate.id, end, false));
                }
            }
            Op::EndMandate => {
                if let Some((id, _, ended)) = &mut oracle.mandate {
                    engine.end_mandate(caller.clone(), *id, deadline).await.unwrap();
                    *ended = true;
                }
            }
            Op::Use { which, acting } => {
                let named = which.map(|which| oracle.consents.get(which).map_or(ConsentId([9; 16]), |known| known.id));
                let asked = v1::ExchangeRequest { subject: Some(person(&name)), ..allowance("X", None) };
                let call = ExchangeCall {
                    ground: Ground::Consent { consent: named },
                    mandate: acting.then(|| oracle.mandate.map_or(MandateId([9; 16]), |(id, ..)| id)),
                    ..exchange_call(caller.clone(), asked, deadline)
                };
                let expected = oracle.use_one(*which, *acting, now);
                let found: Vec<_> = match engine.exchange(call).await {
                    Ok(_) => Vec::new(),
                    Err(EngineError::Refused(logged)) => logged.refusal.reasons().iter().map(|r| r.code()).collect(),
                    Err(other) => panic!("{at}: {op:?}: {other}"),
                };
                assert_eq!(found, expected, "{at}: {op:?}");
            }
        }
    }
}

#[test]
fn the_engine_decides_as_the_oracle_says_in_thousands_of_lives() {
    let world = World::new();
    let cases = std::env::var("UNEFOIS_LIVES").ok().map_or(2_000, |n| n.parse().unwrap());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let lives = proptest::collection::vec(op(), 1..40);
    let played = runner.run(&lives, |ops| {
        world.runtime.block_on(play(&world, &ops));
        Ok(())
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
    println!("{cases} lives, {} persons", world.persons.load(Ordering::Relaxed));
    world.engine.close();
}
