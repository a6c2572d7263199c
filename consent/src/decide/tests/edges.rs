//! Every limit of time and number, exactly at its edge and one step beside it.

use super::*;

/// Refused or not, by how many milliseconds `now` lies after the edge.
fn around(edge: Timestamp, reason: Reason, refused: [bool; 3], set: impl Fn(&mut World)) {
    for (ms, refused) in [-1, 0, 1].into_iter().zip(refused) {
        let mut world = World::new();
        set(&mut world);
        world.now = shifted(edge, ms);
        let expected: &[Reason] = if refused { &[reason] } else { &[] };
        assert_eq!(reasons(&world), expected, "{ms} ms after the edge");
    }
}

#[test]
fn a_habilitation_is_valid_from_its_first_instant_to_before_its_last() {
    let of = |set: fn(&mut Habilitation)| {
        move |world: &mut World| {
            set(&mut world.file.habilitations[1]);
            world.question.ground =
                Ground::ExplicitRequest { requested_at: p("2026-01-01T00:00:00Z"), previewed_at: None };
        }
    };
    around(noon(), Reason::HabilitationOutOfDate, [true, false, false], of(|h| h.valid_from = noon()));
    around(noon(), Reason::HabilitationOutOfDate, [false, true, true], of(|h| h.valid_until = noon()));
}

#[test]
fn a_consent_is_valid_from_its_first_instant_to_before_its_last() {
    let of = |consent: Consent| move |world: &mut World| *world = World::with_consents(std::slice::from_ref(&consent));
    let starts = Consent { not_before: noon(), ..consent(1) };
    around(noon(), Reason::ConsentNotYetValid, [true, false, false], of(starts));
    let ends = Consent { expires_at: noon(), ..consent(1) };
    around(noon(), Reason::ConsentExpired, [false, true, true], of(ends));
}

#[test]
fn a_notice_informs_up_to_its_age_in_days_and_no_longer() {
    let edge = shifted(noon(), 30 * DAY_MS as i64);
    around(edge, Reason::NoticeTooOld, [false, false, true], |_| {});
}

#[test]
fn the_longest_age_of_a_notice_never_overflows() {
    let mut world = World::new();
    world.file.procedures[0].notice_max_age_days = u32::MAX;
    law_request(&mut world, NoticeShown { shown_at: Timestamp::from_millis(0), ..notice() });
    assert_eq!(reasons(&world), []);
}

#[test]
fn a_consumers_clock_may_run_two_minutes_ahead() {
    let grounds: [fn(Timestamp) -> Ground; 4] = [
        |shown_at| Ground::LawRequest { notice: NoticeShown { shown_at, ..notice() } },
        |shown_at| Ground::Proactive { notice: NoticeShown { shown_at, ..notice() } },
        |requested_at| Ground::ExplicitRequest { requested_at, previewed_at: None },
        |previewed| Ground::ExplicitRequest { requested_at: noon(), previewed_at: Some(previewed) },
    ];
    for ground in grounds {
        let evidence = noon().plus(CLOCK_SKEW);
        around(noon(), Reason::EvidenceInFuture, [true, false, false], |w| w.question.ground = ground(evidence));
    }
}

#[test]
fn a_request_id_may_be_tried_again_for_a_quarter_of_an_hour() {
    let edge = noon().plus(RETRY_WINDOW);
    around(edge, Reason::RetryTooLate, [false, false, true], |w| w.earlier = Some(earlier(w)));
}

#[test]
fn an_exchange_is_tried_five_times_in_all() {
    let most = Rules::NEWEST.max_attempts();
    for (attempts, refused) in [(1, false), (most - 1, false), (most, true), (u32::MAX, true)] {
        let mut world = World::new();
        world.earlier = Some(Earlier { attempts, exchange: ExchangeId([3; 16]), ..earlier(&world) });
        match world.decide() {
            Ok(permit) => assert_eq!((permit.attempt(), permit.exchange()), (attempts + 1, ExchangeId([3; 16]))),
            Err(refusal) => assert_eq!(refusal.reasons(), [Reason::RetryTooOften]),
        }
        assert_eq!(world.decide().is_err(), refused, "{attempts}");
    }
}

#[test]
fn a_reused_request_id_says_nothing_of_its_first_use() {
    let mut world = World::new();
    let reused = Earlier { content: Digest([2; 32]), at: Timestamp::from_millis(0), attempts: 9, ..earlier(&world) };
    world.earlier = Some(reused);
    assert_eq!(reasons(&world), [Reason::RequestIdReused]);
}

#[test]
fn a_quota_counts_to_its_number_each_day_and_begins_again_at_midnight() {
    for (used, refused) in [(0, false), (9, false), (10, true), (u64::MAX, true)] {
        let mut world = World::new();
        world.used.0 = [(noon().day(), used)].into();
        let expected: &[Reason] = if refused { &[Reason::QuotaExhausted] } else { &[] };
        assert_eq!(reasons(&world), expected, "{used}");
    }
    let midnight: Timestamp = p("2026-09-02T00:00:00Z");
    around(midnight, Reason::QuotaExhausted, [true, false, false], |w| w.used.0 = [(noon().day(), 10)].into());
}

#[test]
fn no_quota_is_no_limit_and_a_quota_of_zero_permits_nothing() {
    for (quota_per_day, expected) in [(None, &[][..]), (Some(0), &[Reason::QuotaExhausted][..])] {
        let mut world = World::new();
        world.file.habilitations[1].quota_per_day = quota_per_day;
        world.used.0 = [(noon().day(), if quota_per_day.is_none() { u64::MAX } else { 0 })].into();
        assert_eq!(reasons(&world), expected);
    }
}

#[test]
fn a_retry_is_not_counted_against_the_quota() {
    let mut world = World::new();
    world.used.0 = [(noon().day(), 10)].into();
    world.earlier = Some(earlier(&world));
    assert_eq!(reasons(&world), []);
}
