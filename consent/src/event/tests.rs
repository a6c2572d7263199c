//! Records of version 1, as logs in the world hold them.

use std::collections::BTreeSet;

use super::*;

const GOLDEN: &str = include_str!("../../testdata/events-v1.jsonl");

/// Kind byte and name of every event, in the order of the golden file.
const KINDS: [(u8, &str, &str); 26] = [
    (1, "log_opened", "log opened"),
    (2, "registry_changed", "registry changed"),
    (3, "consent_granted", "consent granted"),
    (4, "consent_withdrawn", "consent withdrawn"),
    (5, "objection_recorded", "objection recorded"),
    (6, "objection_lifted", "objection lifted"),
    (7, "carried", "carried over"),
    (8, "purged", "purged"),
    (16, "requested", "requested"),
    (17, "refused", "refused"),
    (18, "answered", "answered"),
    (19, "dropped", "dropped"),
    (20, "failed", "failed"),
    (32, "traces_read", "traces read"),
    (9, "consent_requested", "consent requested"),
    (10, "consent_refused", "consent refused"),
    (11, "consent_paused", "consent paused"),
    (12, "consent_resumed", "consent resumed"),
    (13, "consent_renewed", "consent renewed"),
    (14, "consent_revoked", "consent revoked"),
    (15, "consent_invalidated", "consent invalidated"),
    (21, "mandate_granted", "mandate granted"),
    (22, "mandate_ended", "mandate ended"),
    (23, "shard_closed", "shard closed"),
    (24, "key_made", "key made"),
    (25, "rules_changed", "rules changed"),
];

fn golden() -> Vec<Event> {
    GOLDEN.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Position in [`KINDS`]. A new event does not compile here before it has a line there and in the golden file.
fn position(event: &Event) -> usize {
    match event {
        Event::LogOpened(_) => 0,
        Event::RegistryChanged(_) => 1,
        Event::ConsentGranted(_) => 2,
        Event::ConsentWithdrawn(_) => 3,
        Event::ObjectionRecorded(_) => 4,
        Event::ObjectionLifted(_) => 5,
        Event::Carried(_) => 6,
        Event::Purged(_) => 7,
        Event::Requested(_) => 8,
        Event::Refused(_) => 9,
        Event::Answered(_) => 10,
        Event::Dropped(_) => 11,
        Event::Failed(_) => 12,
        Event::TracesRead(_) => 13,
        Event::ConsentRequested(_) => 14,
        Event::ConsentRefused(_) => 15,
        Event::ConsentPaused(_) => 16,
        Event::ConsentResumed(_) => 17,
        Event::ConsentRenewed(_) => 18,
        Event::ConsentRevoked(_) => 19,
        Event::ConsentInvalidated(_) => 20,
        Event::MandateGranted(_) => 21,
        Event::MandateEnded(_) => 22,
        Event::ShardClosed(_) => 23,
        Event::KeyMade(_) => 24,
        Event::RulesChanged(_) => 25,
    }
}

/// The inner variant of an event that has several, for the count of what the golden file shows.
fn shade(event: &Event) -> Option<String> {
    let change = |change: &RegistryChange| match change {
        RegistryChange::PutParticipant(_) => "put participant",
        RegistryChange::RemoveParticipant(_) => "remove participant",
        RegistryChange::PutProcedure(_) => "put procedure",
        RegistryChange::RemoveProcedure(_) => "remove procedure",
        RegistryChange::PutDataset(_) => "put dataset",
        RegistryChange::RemoveDataset(_) => "remove dataset",
        RegistryChange::PutHabilitation(_) => "put habilitation",
        RegistryChange::RemoveHabilitation(_) => "remove habilitation",
    };
    match event {
        Event::RegistryChanged(e) => Some(change(&e.change).to_owned()),
        Event::Carried(e) => Some(match e.fact {
            CarriedFact::Subject(_) => "subject".to_owned(),
            CarriedFact::Uses(_) => "uses".to_owned(),
        }),
        Event::Requested(e) => Some(e.question.ground.kind().as_str().to_owned()),
        Event::Failed(e) => Some(match e.cause {
            FailureCause::DeadlineExceeded => "deadline".to_owned(),
            FailureCause::BrokerStopped => "stopped".to_owned(),
            FailureCause::Internal => "internal".to_owned(),
            FailureCause::NoRoom => "no room".to_owned(),
        }),
        Event::TracesRead(e) => Some(match e.scope {
            TraceScope::Entries { .. } => "entries".to_owned(),
            TraceScope::Receipt { .. } => "receipt".to_owned(),
            TraceScope::Person { reader: None, .. } => "person".to_owned(),
            TraceScope::Person { reader: Some(_), .. } => "representative".to_owned(),
        }),
        Event::LogOpened(e) => Some(if e.previous.is_some() { "goes on" } else { "first" }.to_owned()),
        Event::ShardClosed(_)
        | Event::KeyMade(_)
        | Event::RulesChanged(_)
        | Event::ConsentGranted(_)
        | Event::ConsentRequested(_)
        | Event::ConsentRenewed(_)
        | Event::ConsentRefused(_)
        | Event::ConsentPaused(_)
        | Event::ConsentResumed(_)
        | Event::ConsentWithdrawn(_)
        | Event::ConsentRevoked(_)
        | Event::ConsentInvalidated(_)
        | Event::MandateGranted(_)
        | Event::MandateEnded(_)
        | Event::ObjectionRecorded(_)
        | Event::ObjectionLifted(_)
        | Event::Purged(_)
        | Event::Refused(_)
        | Event::Answered(_)
        | Event::Dropped(_) => None,
    }
}

#[test]
fn records_of_version_1_are_read_and_printed_byte_for_byte() {
    for line in GOLDEN.lines() {
        let event: Event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}

#[test]
fn the_kinds_that_may_introduce_a_person_are_those_of_events_that_do() {
    let introduces = |event: &Event| {
        // Whoever has room for a new person, whether or not this one is there.
        let text = serde_json::to_value(event).unwrap();
        let record = text.as_object().unwrap().values().next().unwrap().clone();
        let new = serde_json::json!({ "tag": "00".repeat(32), "subject": "00".repeat(16) });
        ["new_subject", "new_principal"].into_iter().any(|member| {
            let mut record = record.clone();
            record[member] = new.clone();
            let name = text.as_object().unwrap().keys().next().unwrap();
            serde_json::from_value::<Event>(serde_json::json!({ name: record }))
                .is_ok_and(|event| event.facts().introduces().next().is_some())
        })
    };
    for event in golden() {
        let expected = introduces(&event) || event.kind() == Event::CARRIED;
        assert_eq!(Event::may_introduce(event.kind()), expected, "{}", Event::kind_name(event.kind()));
    }
}

#[test]
fn what_an_event_rests_on_is_of_a_kind_that_it_may_rest_on() {
    for event in golden() {
        for rest in event.facts().rests_on() {
            let fitting = (0..=u8::MAX).filter(|kind| rest.kind.fits(*kind));
            assert!(fitting.clone().count() > 0 && fitting.clone().all(Event::is_known), "{rest:?}");
        }
        // Who is named, or shown a record, is somebody of the ledger.
        assert!(event.facts().shown_to.is_none() || event.kind() != Event::MANDATE_GRANTED);
    }
}

#[test]
fn a_retention_follows_from_the_kind_the_record_and_the_registry() {
    let mut registry = crate::Registry::default();
    let now: Timestamp = "2026-09-01T08:30:00Z".parse().unwrap();
    for event in golden() {
        if let Event::RegistryChanged(changed) = &event {
            registry.apply(changed.change.clone());
        }
    }
    let of = |event: &Event, registry: &crate::Registry| {
        event.facts().keep.retention(now, registry, |_| Some(crate::Retention::from_months(7))).months()
    };
    for event in golden() {
        let expected = match position(&event) {
            0 | 1 | 7 | 23 | 24 | 25 => 0,
            4 | 5 => 24,
            8 | 9 | 6 | 13 => 36,
            10..=12 => 7,
            21 | 22 => 48 + 36,
            _ => 12 + 36,
        };
        assert_eq!(of(&event, &registry), expected, "{}", Event::kind_name(event.kind()));
    }
}

#[test]
fn every_event_has_the_kind_and_the_name_it_was_released_with() {
    for (event, line) in golden().iter().zip(GOLDEN.lines()) {
        let (kind, name, words) = KINDS[position(event)];
        assert!(line.starts_with(&format!("{{\"{name}\":")), "{line}");
        assert_eq!((event.kind(), Event::kind_name(event.kind())), (kind, words));
    }
    let released: BTreeSet<_> = KINDS.iter().map(|(kind, ..)| *kind).collect();
    for kind in 0..=u8::MAX {
        assert_eq!(Event::kind_name(kind) == "unknown", !released.contains(&kind), "{kind}");
    }
}

#[test]
fn the_golden_records_show_every_event_and_every_inner_variant() {
    let golden = golden();
    let shown: BTreeSet<_> = golden.iter().map(position).collect();
    assert_eq!(shown.len(), KINDS.len());
    let shades: BTreeSet<_> = golden.iter().filter_map(shade).collect();
    assert_eq!(shades.len(), 8 + 2 + 4 + 4 + 4 + 2);
    let told: Vec<_> =
        golden.iter().filter_map(|e| if let Event::Refused(e) = e { Some(&e.reasons) } else { None }).collect();
    assert_eq!(told, [&crate::Reason::ALL.to_vec()]);
}

#[test]
fn a_record_introduces_its_subject_once_and_by_reference() {
    let introduces: Vec<_> =
        golden().iter().filter(|e| e.facts().introduces().next().is_some()).map(Event::kind).collect();
    assert_eq!(introduces, [3, 5, 16, 17, 9, 21]);
}

#[test]
fn a_record_with_a_field_that_nobody_knows_is_refused() {
    for line in GOLDEN.lines() {
        let (name, rest) = line.split_once(":{").unwrap();
        let altered = format!("{name}:{{\"unknown\":1,{rest}");
        assert!(serde_json::from_str::<Event>(&altered).is_err(), "{altered}");
    }
}
