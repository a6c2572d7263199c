//! The limits of one connector, in the operator's words.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::config::ConnectorConfigError;

/// Longest timeout that makes sense: the consumer's own call has ended long before.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// Who asks again later asks for what is true then.
const MAX_KEEP: Duration = Duration::from_secs(300);
const MAX_CONCURRENT: usize = 10_000;
const MAX_PER_SECOND: u32 = 10_000;
const ANSWER_BYTES: std::ops::RangeInclusive<usize> = 1024..=16 * 1024 * 1024;

/// What one connector may take: time, places and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// `timeout_ms`: longest time for one question, waiting for a place included. 5000 where absent; 1 to 60000.
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
    /// Most questions that run at once; others wait. 64 where absent; 1 to 10000.
    pub max_concurrent: usize,
    /// Most questions a second, evenly spaced; others wait for their turn, or are `RATE_LIMITED` where it would come after their
    /// deadline. 0, any number, where absent; 0 to 10000.
    pub per_second: u32,
    /// After so many failures in a row a dataset's source is left alone for a while. 20 where absent; 0: never.
    pub breaker_failures: u32,
    /// `breaker_pause_ms`: for how long at first; it doubles while the source goes on failing. 2000 where absent; 1 to 60000.
    #[serde(rename = "breaker_pause_ms", deserialize_with = "millis")]
    pub breaker_pause: Duration,
    /// `keep_s`: for how many seconds an answer may be given again to the same question of the same administration, where the
    /// source does not forbid it. 0, never, where absent; 0 to 300.
    #[serde(rename = "keep_s", deserialize_with = "seconds")]
    pub keep: Duration,
    /// Largest answer in bytes, of JSON. 262144 (256 KiB) where absent; 1024 to 16777216.
    pub max_answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            max_concurrent: 64,
            per_second: 0,
            breaker_failures: 20,
            breaker_pause: Duration::from_secs(2),
            keep: Duration::ZERO,
            max_answer_bytes: 256 * 1024,
        }
    }
}

impl Limits {
    /// Refuses limits that cannot be meant, naming the key.
    pub fn validate(&self) -> Result<(), ConnectorConfigError> {
        let refuse = |key: &str, rule: &str| Err(ConnectorConfigError::invalid(key, rule));
        if self.timeout.is_zero() || self.timeout > MAX_TIMEOUT {
            return refuse("limits.timeout_ms", "from 1 to 60000");
        }
        if !(1..=MAX_CONCURRENT).contains(&self.max_concurrent) {
            return refuse("limits.max_concurrent", "from 1 to 10000");
        }
        if self.per_second > MAX_PER_SECOND {
            return refuse("limits.per_second", "from 0 to 10000");
        }
        if self.breaker_pause.is_zero() || self.breaker_pause > MAX_TIMEOUT {
            return refuse("limits.breaker_pause_ms", "from 1 to 60000");
        }
        if self.keep > MAX_KEEP {
            return refuse("limits.keep_s", "from 0 to 300");
        }
        if !ANSWER_BYTES.contains(&self.max_answer_bytes) {
            return refuse("limits.max_answer_bytes", "from 1024 to 16777216");
        }
        Ok(())
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}
