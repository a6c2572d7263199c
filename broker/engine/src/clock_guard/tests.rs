use super::*;
use crate::clock::ManualClock;

/// To what somebody sets a clock.
type Jump = fn(Timestamp) -> Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn noon() -> Timestamp {
    "2027-03-10T12:00:00Z".parse().unwrap()
}

/// A guard of a log whose last entry is of noon, and its clock, which says noon.
fn guard() -> (Arc<ManualClock>, ClockGuard) {
    let clock = Arc::new(ManualClock::new(noon()));
    let guard = ClockGuard::new(clock.clone(), Some(noon()));
    guard.now().unwrap();
    (clock, guard)
}

#[test]
fn a_machine_that_was_suspended_is_believed() {
    let (clock, guard) = guard();
    clock.advance(3 * DAY);
    assert_eq!(guard.now(), Ok(noon().plus(3 * DAY)));
}

#[test]
fn a_resumed_machine_is_believed_where_both_clocks_counted_and_not_where_one_did() {
    let (clock, guard) = guard();
    clock.advance(2 * HOUR);
    guard.now().unwrap();
    // The machine stood still outside of its own time; then its clock was put right.
    clock.set_wall(noon().plus(5 * HOUR));
    let fault = guard.now().unwrap_err();
    assert_eq!(fault, ClockFault::WasSet { now: noon().plus(5 * HOUR), expected: noon().plus(2 * HOUR) });
    let said = fault.to_string();
    assert!(said.contains("by 3 h 0 min") && said.contains("restart the broker"), "{said}");
}

#[test]
fn a_first_correction_from_the_network_is_believed_where_it_is_small() {
    for minutes in 1..=5 {
        let (clock, guard) = guard();
        clock.advance(MINUTE);
        clock.set_wall(clock.now().plus(minutes * MINUTE));
        assert_eq!(guard.now(), Ok(noon().plus((minutes + 1) * MINUTE)));
        let (clock, guard) = self::guard();
        clock.advance(MINUTE);
        clock.set_wall(clock.now().minus(minutes * MINUTE));
        assert!(guard.now().is_ok());
    }
}

#[test]
fn a_clock_before_the_log_is_believed_once_it_was_put_right() {
    let clock = Arc::new(ManualClock::new("1970-01-01T00:00:10Z".parse().unwrap()));
    let guard = ClockGuard::new(clock.clone(), Some(noon()));
    let fault = guard.now().unwrap_err();
    assert!(matches!(fault, ClockFault::BeforeLog { .. }) && fault.to_string().contains("accept-clock"), "{fault}");
    clock.set_wall(noon().plus(HOUR));
    assert_eq!(guard.now(), Ok(noon().plus(HOUR)));
}

#[test]
fn a_clock_before_the_log_is_believed_when_it_has_caught_up() {
    let clock = Arc::new(ManualClock::new(noon().minus(HOUR)));
    let guard = ClockGuard::new(clock.clone(), Some(noon()));
    assert!(guard.now().is_err());
    clock.advance(54 * MINUTE);
    assert!(guard.now().is_err());
    clock.advance(MINUTE);
    assert_eq!(guard.now(), Ok(noon().minus(5 * MINUTE)));
}

#[test]
fn a_summer_without_entries_is_believed_and_a_longer_time_is_not() {
    for (days, believed) in [(92, true), (93, false)] {
        let clock = Arc::new(ManualClock::new(noon().plus(days * DAY)));
        let guard = ClockGuard::new(clock, Some(noon()));
        assert_eq!(guard.now().is_ok(), believed, "{days}");
    }
    let clock = Arc::new(ManualClock::new(noon().plus(93 * DAY)));
    let said = ClockGuard::new(clock.clone(), Some(noon())).now().unwrap_err().to_string();
    assert!(said.contains("93 days") && said.contains("accept-clock"), "{said}");
    assert!(ClockGuard::new(clock, None).now().is_ok(), "an empty log takes any time");
}

#[test]
fn a_clock_that_jumps_is_doubted_in_both_directions_until_the_jump_is_undone() {
    let jumps: [(&str, Jump); 4] = [
        ("6 minutes ahead", |now| now.plus(6 * MINUTE)),
        ("years ahead", |now| now.plus(1_000 * DAY)),
        ("6 minutes back", |now| now.minus(6 * MINUTE)),
        ("years back", |now| now.minus(1_000 * DAY)),
    ];
    for (jump, to) in jumps {
        let (clock, guard) = guard();
        clock.advance(HOUR);
        guard.now().unwrap();
        let right = clock.now();
        clock.set_wall(to(right));
        for _ in 0..50 {
            assert!(guard.now().is_err(), "{jump}");
            clock.advance(MINUTE);
        }
        clock.set_wall(right.plus(50 * MINUTE));
        assert_eq!(guard.now(), Ok(right.plus(50 * MINUTE)), "{jump}");
    }
}

#[test]
fn small_corrections_over_years_are_no_jump_and_large_ones_do_not_hide_as_many_small_ones() {
    let (clock, guard) = guard();
    for _ in 0..1_000 {
        clock.advance(DAY);
        clock.set_wall(clock.now().plus(4 * MINUTE));
        guard.now().unwrap();
    }
    let steps = (0..10).take_while(|_| {
        clock.advance(MINUTE);
        clock.set_wall(clock.now().plus(4 * MINUTE));
        guard.now().is_ok()
    });
    assert!(steps.count() <= 2);
}

#[test]
fn nothing_is_purged_before_the_clock_was_right_for_a_day() {
    let (clock, guard) = guard();
    assert_eq!(guard.may_purge(), Ok(false));
    clock.advance(DAY - MINUTE);
    assert_eq!(guard.may_purge(), Ok(false));
    clock.advance(MINUTE);
    assert_eq!(guard.may_purge(), Ok(true));
    let right = clock.now();
    clock.set_wall(right.plus(400 * DAY));
    assert!(guard.may_purge().is_err());
    clock.set_wall(right);
    assert_eq!(guard.may_purge(), Ok(false), "the day begins again");
    clock.advance(DAY);
    assert_eq!(guard.may_purge(), Ok(true));
}
