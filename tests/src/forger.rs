//! An operator who holds every key, and signs another log than the broker wrote.

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use unefois::config::Loaded;
use unefois_audit::{Checkpoint, Frontier, Hash, Leaf, Salt, VerifierKey};
use unefois_consent::event::{Event, Refused, Requested};
use unefois_consent::registry::{Registry, RegistryFile};
use unefois_consent::{RecordPeriod, Retention, SubjectRef, Timestamp};
use unefois_engine::Signer;
use unefois_engine::replay::{BatchSource, LogFault, Report, replay, verify};
use unefois_engine::seal::{Opener, Plain, seal_record};
use unefois_engine::store::{Batch, RecordKeys, SealedEntry, StoreError, Visit};
use unefois_store::MemoryStore;
use unefois_store::embedded::{FileKeys, JournalReader};

use crate::sandbox::{FIRST_ENTRIES, Sandbox};
use crate::world;

/// An entry before it is sealed. `kind` is what its leaf says, right or not.
#[derive(Clone)]
pub struct Entry {
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Of its leaf.
    pub kind: u8,
    /// How long its record is kept.
    pub retention: Retention,
    /// What its record says.
    pub event: Event,
    /// The text of its record, where it is another than the broker writes.
    pub text: Option<String>,
}

impl Entry {
    /// Says something else, and is of its kind.
    pub fn set(&mut self, event: Event) {
        self.kind = event.kind();
        self.event = event;
    }
}

/// How a forger commits.
#[derive(Debug, Clone, Copy)]
pub enum Commits {
    /// Each entry for itself.
    EachEntry,
    /// All of them in one batch.
    AllAtOnce,
}

/// A log in memory.
pub struct Batches(pub Vec<Batch>);

impl BatchSource for Batches {
    fn size(&self) -> u64 {
        self.0.last().map_or(0, Batch::end)
    }

    fn shards(&self) -> Vec<u64> {
        vec![0]
    }

    fn read(&self, from: u64, visit: &mut dyn FnMut(Batch) -> Visit) -> Result<(), StoreError> {
        for batch in self.0.iter().filter(|batch| batch.end() > from) {
            if visit(batch.clone()) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }

    fn entry(&self, index: u64) -> Result<Option<SealedEntry>, StoreError> {
        let batch = self.0.get(self.0.partition_point(|batch| batch.end() <= index));
        let place = batch.and_then(|batch| usize::try_from(index.checked_sub(batch.first)?).ok());
        Ok(batch.zip(place).and_then(|(batch, place)| batch.entries.get(place)).cloned())
    }

    fn tile_hashes(&self, _shard: u64, _level: u8, _start: u64, _count: usize) -> Result<Vec<Hash>, StoreError> {
        Ok(Vec::new())
    }
}

/// The log of a broker that has stopped, with all the keys of its operator.
pub struct Log {
    /// As the broker wrote them.
    pub batches: Vec<Batch>,
    /// What is in them.
    pub entries: Vec<Entry>,
    /// Of the log.
    pub key: VerifierKey,
    signer: Arc<dyn Signer>,
    keys: Arc<FileKeys>,
    // Its folder holds the keys.
    _sandbox: Sandbox,
}

impl Log {
    /// The log of a broker that has stopped.
    pub fn of(sandbox: Sandbox) -> Self {
        let mut batches = Vec::new();
        let reader = JournalReader::open(&sandbox.data()).unwrap();
        let keep = &mut |batch| {
            batches.push(batch);
            Visit::Continue
        };
        reader.read(0, keep).unwrap();
        let leaves = batches.iter().flat_map(|batch| &batch.entries).map(|entry| (entry.leaf, entry.opening.retention));
        let entries = leaves
            .zip(world::events(&sandbox.data()))
            .map(|((leaf, retention), (_, event))| Entry {
                time_ms: leaf.time_ms,
                kind: leaf.kind,
                retention,
                event,
                text: None,
            })
            .collect();
        Self {
            batches,
            entries,
            key: sandbox.key.clone(),
            signer: Loaded::open(&sandbox.folder.config()).unwrap().signer,
            keys: Arc::new(FileKeys::open(&sandbox.data().join("keys")).unwrap()),
            _sandbox: sandbox,
        }
    }

    /// Where the `nth` entry of a kind is, from 0; the first registry does not count.
    pub fn find(&self, kind: u8, nth: usize) -> usize {
        let from = usize::try_from(FIRST_ENTRIES).unwrap();
        (from..self.entries.len()).filter(|at| self.entries[*at].kind == kind).nth(nth).unwrap()
    }

    /// The `nth` permitted exchange.
    pub fn requested(&self, nth: usize) -> (usize, Requested) {
        let at = self.find(16, nth);
        let Event::Requested(requested) = &self.entries[at].event else { panic!("not a request") };
        (at, (**requested).clone())
    }

    /// The `nth` refused exchange.
    pub fn refused(&self, nth: usize) -> (usize, Refused) {
        let at = self.find(17, nth);
        let Event::Refused(refused) = &self.entries[at].event else { panic!("not a refusal") };
        (at, (**refused).clone())
    }

    /// The registry before entry `at`.
    pub fn registry_before(&self, at: usize) -> RegistryFile {
        let mut registry = Registry::default();
        for entry in &self.entries[..at] {
            if let Event::RegistryChanged(changed) = &entry.event {
                registry.apply(changed.change.clone());
            }
        }
        registry.to_file()
    }

    /// The person of the `nth` answer.
    pub fn person(&self, nth: usize) -> SubjectRef {
        self.requested(nth).1.question.subject
    }

    /// Seals, hashes and signs as the broker does.
    pub fn sign(&self, entries: &[Entry], commits: Commits) -> Batches {
        let size = match commits {
            Commits::EachEntry => 1,
            Commits::AllAtOnce => entries.len(),
        };
        let mut frontier = Frontier::new();
        let mut batches = Vec::new();
        for chunk in entries.chunks(size) {
            let first = frontier.size();
            let mut sealed = Vec::new();
            for entry in chunk {
                let entry = self.seal(frontier.size(), entry);
                frontier.append(entry.leaf.hash());
                sealed.push(entry);
            }
            let origin = self.key.name().to_owned();
            let head = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
            let signature = self.signer.sign(head.note_text().as_bytes()).unwrap();
            batches.push(Batch { first, entries: sealed, root: head.root, signature });
        }
        Batches(batches)
    }

    fn seal(&self, index: u64, entry: &Entry) -> SealedEntry {
        let record = entry.text.clone().unwrap_or_else(|| serde_json::to_string(&entry.event).unwrap());
        let [record_salt, retention_salt, links_salt] = std::array::from_fn(|_| Salt(random()));
        let plain = Plain { record_salt, retention_salt, links_salt, links: &[], record: &record };
        let opening = plain.opening(entry.retention);
        let leaf = Leaf { kind: entry.kind, time_ms: entry.time_ms, commitment: opening.parts().commitment() };
        let period = RecordPeriod::new(Timestamp::from_millis(entry.time_ms), entry.retention);
        let key = self.keys.get_or_create(period).unwrap();
        let sealed = seal_record(&key, (index, &leaf, &opening), &plain, random()).unwrap();
        SealedEntry { leaf, opening, sealed }
    }

    /// Opens its records.
    pub fn opener(&self) -> Opener {
        Opener::new(self.keys.clone())
    }

    /// Checks hashes, signatures and commitments.
    pub fn verify(&self, source: &Batches) -> Result<Report, LogFault> {
        verify(source, &self.key, &self.opener(), &mut |_, _| {})
    }

    /// Derives each decision again.
    pub fn replay(&self, source: &Batches) -> Result<Report, LogFault> {
        replay(source, &self.key, &self.opener(), Arc::new(MemoryStore::default()), &mut |_, _| {})
    }

    /// `change` makes a log that verifies and whose entry `at` does not follow, because `why`.
    pub fn assert_caught(&self, forgery: &str, at: usize, why: &str, change: impl FnOnce(&mut Vec<Entry>)) {
        let mut entries = self.entries.clone();
        change(&mut entries);
        for commits in [Commits::EachEntry, Commits::AllAtOnce] {
            let signed = self.sign(&entries, commits);
            let verified = self.verify(&signed).unwrap_or_else(|fault| panic!("{forgery}, {commits:?}: {fault}"));
            assert_eq!(verified.records, entries.len() as u64, "{forgery}");
            assert_named(self.replay(&signed), at, why, &format!("{forgery}, {commits:?}"));
        }
    }

    /// `change` makes a log whose entry `at` does not verify, and so does not follow, because `why`.
    pub fn assert_seen(&self, forgery: &str, at: usize, why: &str, change: impl FnOnce(&mut Vec<Entry>)) {
        let mut entries = self.entries.clone();
        change(&mut entries);
        let signed = self.sign(&entries, Commits::AllAtOnce);
        for report in [self.verify(&signed), self.replay(&signed)] {
            assert_named(report, at, why, forgery);
        }
    }
}

fn assert_named(report: Result<Report, LogFault>, at: usize, why: &str, forgery: &str) {
    let fault = report.expect_err(forgery);
    let LogFault::Entry { index, what } = &fault else { panic!("{forgery}: {fault}") };
    assert_eq!(*index, at as u64, "{forgery}: {fault}");
    assert!(what.contains(why), "{forgery}: {fault}");
}

/// The head of a tree of this size and root, which the operator of a sandbox signs, true or not.
pub fn sign_head(sandbox: &Sandbox, size: u64, root: Hash) -> String {
    let signer = Loaded::open(&sandbox.folder.config()).unwrap().signer;
    let key = signer.verifier_key();
    let head = Checkpoint { origin: key.name().to_owned(), size, root };
    head.signed(&signer.sign(head.note_text().as_bytes()).unwrap(), key.id())
}

/// Every way to change one part of a note, its log's signature and each cosignature among them, without anybody's key.
pub fn changed_notes(note: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = note.lines().collect();
    let mut changed = Vec::new();
    for (at, line) in lines.iter().enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
        // A digit, and else a letter of base64 in the middle of its last word.
        let place = line.len() - (line.len() - line.rfind(' ').map_or(0, |space| space + 1)).div_ceil(2);
        let other = if line.as_bytes()[place] == b'1' { "2" } else { "1" };
        let mut forged: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        forged[at].replace_range(place..place + 1, other);
        changed.push((format!("line {at} is {}", forged[at]), forged.join("\n") + "\n"));
    }
    changed
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

/// Members that name another entry by its index.
const NAMES_ENTRY: [&str; 7] =
    ["requested", "before", "recorded", "granted", "mandate_entry", "introduced", "rests_on"];

fn move_indexes(value: &mut serde_json::Value, moves: &dyn Fn(u64) -> u64) {
    if let Some(index) = value.as_u64() {
        *value = moves(index).into();
    } else if let serde_json::Value::Array(items) = value {
        items.iter_mut().for_each(|item| move_indexes(item, moves));
    }
}

fn move_named(value: &mut serde_json::Value, moves: &dyn Fn(u64) -> u64) {
    let serde_json::Value::Object(members) = value else { return };
    for (name, member) in members {
        if NAMES_ENTRY.contains(&name.as_str()) {
            move_indexes(member, moves);
        }
        move_named(member, moves);
    }
}

/// Whoever takes an entry out or puts one in at `at` also moves what later entries say of the indexes of others.
fn renumber(entries: &mut [Entry], at: usize, moved: impl Fn(u64) -> u64) {
    let moves = |index: u64| if index >= at as u64 { moved(index) } else { index };
    for entry in entries {
        let mut value = serde_json::to_value(&entry.event).unwrap();
        move_named(&mut value, &moves);
        entry.event = serde_json::from_value(value).unwrap();
    }
}

/// Takes an entry out.
pub fn remove(entries: &mut Vec<Entry>, at: usize) {
    entries.remove(at);
    renumber(entries, at, |index| index - 1);
}

/// Puts an entry in a second time, behind itself.
pub fn repeat(entries: &mut Vec<Entry>, at: usize) {
    renumber(entries, at + 1, |index| index + 1);
    entries.insert(at + 1, entries[at].clone());
}

/// Puts an entry in at `at`, with the time of the one that was there.
pub fn put(entries: &mut Vec<Entry>, at: usize, mut entry: Entry) {
    renumber(entries, at, |index| index + 1);
    entry.time_ms = entries[at].time_ms;
    entries.insert(at, entry);
}

/// Two neighbours change places; the times stay where they are, so that time does not go back.
pub fn swap_with_next(entries: &mut [Entry], at: usize) {
    let times = (entries[at].time_ms, entries[at + 1].time_ms);
    entries.swap(at, at + 1);
    (entries[at].time_ms, entries[at + 1].time_ms) = times;
}
