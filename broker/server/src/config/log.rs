//! The part of the configuration about the audit log.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// The log's name, first line of its checkpoints: a URL without scheme, `unefois.ville.example/log`.
    pub origin: String,
    /// The shard under way, where the log has closed one: its checkpoints begin with `ORIGIN/SHARD`. 1 to 64 of a-z, 0-9, dot,
    /// hyphen, underscore. Set what `unefois audit close-shard` says.
    pub shard: Option<String>,
    /// Its Ed25519 key, PKCS#8 in PEM, mode 0600.
    pub signing_key: PathBuf,
    /// The file that keeps the newest head apart from the data, so that data put back from an older copy is noticed. Best
    /// on another disk. Default: the data folder's name with `.head`, beside it.
    pub head_file: Option<PathBuf>,
    /// Address and port of the public log over HTTP (C2SP tlog-tiles); not served where absent.
    pub listen: Option<SocketAddr>,
    /// Tiles and bundles that hold only entries of more than so many whole months ago are not served any more (C2SP tlog-tiles,
    /// pruning). All are served where absent.
    pub prune_after_months: Option<u32>,
    /// The policy (C2SP tlog-policy) whose witnesses are asked to cosign the log; none are where absent.
    pub policy: Option<PathBuf>,
    /// What to do when a quorum is late. Default warn.
    #[serde(default)]
    pub late_quorum: LateQuorum,
    /// After how many seconds without a quorum, while the log grew, it is late. Default 60.
    #[serde(default = "late_quorum_after_s")]
    pub late_quorum_after_s: u64,
    /// The witnesses are asked at most so often, in milliseconds, and only when the log grew. Default 1000.
    #[serde(default = "cosign_every_ms")]
    pub cosign_every_ms: u64,
}

impl LogConfig {
    /// First line of the checkpoints of the shard under way.
    pub fn shard_origin(&self) -> String {
        self.origin_of(self.shard.as_deref())
    }

    /// First line of the checkpoints of a shard.
    pub(crate) fn origin_of(&self, shard: Option<&str>) -> String {
        shard.map_or_else(|| self.origin.clone(), |shard| format!("{}/{shard}", self.origin))
    }
}

/// What [`is_shard_name`] wants.
pub(crate) const SHARD_NAME_RULE: &str = "must be 1 to 64 of a-z, 0-9, dot, hyphen, underscore, such as 2027";

/// Whether a shard may have this name.
pub(crate) fn is_shard_name(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

/// What a broker does whose witnesses are late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LateQuorum {
    /// It tells the operator and goes on.
    #[default]
    Warn,
    /// It refuses whatever would begin, until there is a quorum again.
    Stop,
}

fn late_quorum_after_s() -> u64 {
    60
}

fn cosign_every_ms() -> u64 {
    1_000
}
