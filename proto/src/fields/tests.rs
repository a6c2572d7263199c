use proptest::prelude::*;

use super::*;
use crate::testing::{NO_INSTANTS, at};

#[test]
fn an_instant_lies_from_1970_to_9999_and_has_whole_parts_of_a_second() {
    for (seconds, nanos) in NO_INSTANTS {
        let fault = instant("expires_at", at(seconds, nanos).as_ref()).unwrap_err();
        assert_eq!(fault.to_string(), "expires_at: an instant from 1970 to 9999", "{seconds} {nanos}");
    }
    for (seconds, nanos, millis) in
        [(0, 0, 0), (0, 999_999_999, 999), (1, 1_000_000, 1_001), (253_402_207_200, 0, 253_402_207_200_000)]
    {
        assert_eq!(instant("at", at(seconds, nanos).as_ref()).unwrap().as_millis(), millis);
    }
    assert_eq!(instant("at", None).unwrap_err().to_string(), "at: is required");
    assert_eq!(optional_instant("at", None).unwrap(), None);
}

proptest! {
    #[test]
    fn an_instant_comes_back_from_the_wire_as_it_was(millis in any::<u64>()) {
        for millis in [millis, millis % 253_402_207_200_000] {
            let there = Timestamp::from_millis(millis);
            prop_assert_eq!(instant("at", Some(&wire_instant(there))).unwrap(), there);
            prop_assert_eq!(there.to_string().parse::<Timestamp>().unwrap(), there);
        }
    }
}
