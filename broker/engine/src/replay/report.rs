//! What a look at a log found.

use unefois_audit::{Hash, VerifierKey};
use unefois_consent::Reason;
use unefois_consent::event::{Event, Purged};

use super::LogFault;

/// Most faults that are kept; more are counted.
const MAX_FAULTS: usize = 1_000;

/// After which fault a look at a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// After the first one.
    First,
    /// After none.
    All,
}

/// What was found to be in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    /// Signed heads checked.
    pub heads: u64,
    /// Records opened and compared with what their leaves commit to.
    pub records: u64,
    /// Records whose key was destroyed; their leaves are checked all the same.
    pub purged: u64,
    /// Hashes in the tiles that are those of the journal.
    pub tile_hashes: u64,
    /// Hashes that the tiles should have and have not; the next start of the broker derives them.
    pub tile_hashes_missing: u64,
    /// Decisions derived again.
    pub decisions: u64,
    /// Decisions that rest on records that were purged, and are taken as they are.
    pub underived: u64,
    /// Exchanges under way at the end.
    pub open: u64,
    /// SHA-256 over all changes of the state's rows in the order of the log, and what of it lies in memory at the end; zero where
    /// nothing was replayed or a record was purged (what it counted is gone). Equal in all replays of one log by one version of
    /// this code; a digest of how the state came about, not of its rows at the end.
    pub state: [u8; 32],
}

/// What a look at a log found, in order and not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// What is in order.
    pub report: Report,
    /// What is not, in the order of the log; [`Faults::All`] only.
    pub faults: Vec<LogFault>,
    /// How many more faults there are.
    pub more_faults: u64,
    /// The shards as they are.
    pub shards: Vec<ShardReport>,
    /// Each purge, with the index of its entry.
    pub purges: Vec<(u64, Purged)>,
    /// What a replay takes as the log says it.
    pub taken: Taken,
}

impl Examined {
    pub(super) fn note(&mut self, fault: LogFault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        } else {
            self.more_faults += 1;
        }
    }
}

/// One shard of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardReport {
    /// Index of its first entry.
    pub first: u64,
    /// Its verifier key, with its origin.
    pub key: VerifierKey,
    /// Size of its tree.
    pub size: u64,
    /// Root of that tree.
    pub root: Hash,
}

/// How many entries say what no log can prove. A replay takes that as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Answers: what the sources said.
    pub answers: u64,
    /// Answers that were dropped because a certificate had ended.
    pub certificates: u64,
    /// Exchanges that failed: that time was up, or that the broker had stopped.
    pub failures: u64,
    /// Consents, objections and mandates: that the person, or the administration that says so, said it.
    pub declarations: u64,
    /// Facts that were carried over from records that were purged.
    pub carried: u64,
}

impl Taken {
    pub(super) fn count(&mut self, event: &Event) {
        let facts = event.facts();
        self.declarations += u64::from(facts.consumer.is_some());
        if let Event::Answered(_) = event {
            self.answers += 1;
        } else if let Event::Dropped(dropped) = event {
            self.certificates += u64::from(dropped.reasons.contains(&Reason::CertificateEnded));
        } else if let Event::Failed(_) = event {
            self.failures += 1;
        } else if let Event::Carried(_) = event {
            self.carried += 1;
        }
    }
}
