//! A mirror of a public log: a copy in the same layout (C2SP tlog-tiles), for whoever keeps watch over an administration.
//!
//! Every leaf is fetched, and the tree is hashed again from the leaves: the copy goes on exactly where it stopped and must
//! lead to the root that the log signed. A log that changed, dropped or moved an entry cannot, and one that shows a smaller
//! tree than before is caught too. Each hash tile must be that of the leaves, and the leaves must be in the order of a log.
//! The copy stays at its checkpoint then, so that both sides remain as proof.

use std::io;
use std::path::{Path, PathBuf};

use unefois_audit::tile::TILE_WIDTH;
use unefois_audit::{
    AuditError, Checkpoint, Frontier, Leaf, Policy, TileKind, TileNodes, TilePath, VerifierKey, decode_bundle,
    frontier_at,
};
use unefois_consent::Timestamp;
use unefois_engine::leaves::{Span, SpanEnd, check_kind, check_time};

mod copy;
mod source;

use copy::{AtSize, NewTiles, remove_partial};
pub use source::Source;
use source::read_at_most;

/// Longest checkpoint that is read, in bytes.
const MAX_CHECKPOINT: usize = 64 << 10;
/// Longest tile or bundle, in bytes.
const MAX_TILE: usize = 256 * 64;

/// Why a mirror was not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The log cannot be read.
    #[error("{0}: {1}")]
    Source(String, String),
    /// The copy cannot be read or written.
    #[error("{path}: {error}", path = .path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What the log shows is malformed or not signed by its key.
    #[error("{0}: {1}")]
    Unsound(String, AuditError),
    /// The log's newest head is not cosigned by enough witnesses.
    #[error(
        "{0}: the witnesses that cosigned it are no quorum of the policy; try again later, or ask which do not answer"
    )]
    NoQuorum(String),
    /// What the address shows is of another name than the key.
    #[error(
        "it shows the log {origin}, and the key is of {wanted}. Where that shard was closed it is shown below /shard/FIRST for \
         good (the first shard: /shard/0), and the log goes on under a key that the operator publishes: begin another copy for it"
    )]
    OtherShard {
        /// First line of the checkpoint that is shown.
        origin: String,
        /// That of the key.
        wanted: String,
    },
    /// The log contradicts what it signed before.
    #[error("THE LOG CONTRADICTS ITSELF: {0}. Keep this copy and the log's checkpoint as proof")]
    Contradiction(String),
    /// The log signed an entry that no log of Unefois has there.
    #[error("THE LOG SIGNED A WRONG ENTRY: entry {index}: {what}. Keep this copy and the log's checkpoint as proof")]
    OutOfOrder {
        /// Index of the entry in the tree of its shard.
        index: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A hash tile is not that of the entries.
    #[error(
        "{0}: this hash tile is not that of the entries which the log signed, so proofs that are made from it do not hold; tell \
         the log's operator, who can run `unefois audit verify`"
    )]
    HashTile(String),
    /// The copy does not lead to the root of its own checkpoint.
    #[error(
        "the copy in {0} was changed: it does not lead to the root of its checkpoint; begin another in an empty folder"
    )]
    Changed(PathBuf),
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Entries that the copy had.
    pub before: u64,
    /// Entries that it has now.
    pub after: u64,
}

/// A copy of a log.
#[derive(Debug)]
pub struct Mirror {
    folder: PathBuf,
    key: VerifierKey,
    policy: Option<Policy>,
    frontier: Frontier,
}

impl Mirror {
    /// Opens the copy in `folder`, or begins one, and checks that it leads to the root of its checkpoint.
    pub fn open(folder: &Path, key: &VerifierKey) -> Result<Self, MirrorError> {
        let path = folder.join("checkpoint");
        let frontier = match read_at_most(&path, MAX_CHECKPOINT) {
            Ok(note) => {
                let head = open_checkpoint(&note, key, &path.display().to_string())?;
                let edge = AtSize { folder, size: head.size };
                let frontier = frontier_at(&TileNodes(&edge), head.size);
                let frontier = frontier.map_err(|_| MirrorError::Changed(folder.to_owned()))?;
                if frontier.root() != head.root {
                    return Err(MirrorError::Changed(folder.to_owned()));
                }
                frontier
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Frontier::new(),
            Err(error) => return Err(MirrorError::Copy { path, error }),
        };
        Ok(Self { folder: folder.to_owned(), key: key.clone(), policy: None, frontier })
    }

    /// Takes only heads that a quorum of the policy's witnesses cosigned.
    #[must_use]
    pub fn requiring(mut self, policy: Policy) -> Self {
        self.policy = Some(policy.with_log(&self.key));
        self
    }

    /// The log under this address is in another shard now, as far as its name says.
    fn of_another_shard(&self, note: &[u8]) -> Option<MirrorError> {
        let origin = std::str::from_utf8(note).ok()?.lines().next()?.to_owned();
        (origin != self.key.name()).then(|| MirrorError::OtherShard { origin, wanted: self.key.name().to_owned() })
    }

    /// Copies what the log has beyond the copy. The new checkpoint is written last, when everything leads to its root.
    ///
    /// # Errors
    /// [`MirrorError`]; the copy is at the checkpoint that it had.
    pub async fn update(
        &mut self,
        source: &Source,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Update, MirrorError> {
        let (note, head) = self.newest_head(source).await?;
        let before = self.frontier.size();
        let (tiles, last) = NewTiles::after(&self.folder, before)?;
        let order = Order::after(before, last, head.size);
        let mut entries = Entries { frontier: self.frontier.clone(), tiles, order };
        entries.copy(source, head.size, progress).await?;
        let Entries { frontier, tiles, order } = entries;
        if frontier.root() != head.root {
            return Err(MirrorError::Contradiction(format!(
                "its entries do not lead from the tree of {before} entries that it signed to the tree of {} that it signs now",
                head.size
            )));
        }
        order.check()?;
        if head.size > before || before == 0 {
            tiles.write_partial()?;
            self.check_hash_tiles(source, before, head.size).await?;
            // ORDER: what a checkpoint leads to is durable before it, and it is before what an older one led to goes.
            copy::sync(&self.folder)?;
            copy::write(&self.checkpoint(), &note)?;
            copy::sync(&self.folder)?;
            remove_partial(&self.folder, before, head.size);
        }
        self.frontier = frontier;
        Ok(Update { before, after: head.size })
    }

    /// The head that the log shows, with its note: signed, cosigned as the policy wants, and not older than the copy.
    async fn newest_head(&self, source: &Source) -> Result<(Vec<u8>, Checkpoint), MirrorError> {
        let note = source.read("checkpoint", MAX_CHECKPOINT).await?;
        let head = match open_checkpoint(&note, &self.key, "checkpoint") {
            Ok(head) => head,
            Err(error) => return Err(self.of_another_shard(&note).unwrap_or(error)),
        };
        if let Some(policy) = &self.policy {
            let verdict = policy.judge(&String::from_utf8_lossy(&note));
            let verdict = verdict.map_err(|error| MirrorError::Unsound("checkpoint".to_owned(), error))?;
            if !verdict.quorum_is_met {
                return Err(MirrorError::NoQuorum("checkpoint".to_owned()));
            }
        }
        let before = self.frontier.size();
        if head.size < before {
            return Err(MirrorError::Contradiction(format!(
                "it shows a tree of {} entries, and this copy has {before}",
                head.size
            )));
        }
        Ok((note, head))
    }

    /// The hash tiles that the log shows are those that its entries gave. Proofs are made from them, by whoever is shown them.
    async fn check_hash_tiles(&self, source: &Source, before: u64, after: u64) -> Result<(), MirrorError> {
        let copy = AtSize { folder: &self.folder, size: after };
        for tile in copy::new_hash_tiles(before, after) {
            if source.read_tile(tile).await? != copy.read(tile)? {
                return Err(MirrorError::HashTile(tile.to_string()));
            }
        }
        Ok(())
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint")
    }
}

/// What an update makes of the entries that are new.
struct Entries<'a> {
    frontier: Frontier,
    tiles: NewTiles<'a>,
    order: Order,
}

impl Entries<'_> {
    /// Copies the entries up to `size`. Whether they lead to its root is for the caller to check.
    async fn copy(
        &mut self,
        source: &Source,
        size: u64,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), MirrorError> {
        let before = self.frontier.size();
        while self.frontier.size() < size {
            let bundle = TilePath::at_size(TileKind::Entries, self.frontier.size() / TILE_WIDTH as u64, size);
            let Some(bundle) = bundle else { break };
            let bytes = source.read_tile(bundle).await?;
            let leaves = decode_bundle(&bytes).map_err(|error| MirrorError::Unsound(bundle.to_string(), error))?;
            if leaves.len() != usize::from(bundle.width()) {
                let problem = "it has not the entries that it should".to_owned();
                return Err(MirrorError::Source(bundle.to_string(), problem));
            }
            let known = self.tiles.leaves().len();
            if !leaves.starts_with(self.tiles.leaves()) {
                return Err(MirrorError::Contradiction(format!(
                    "{bundle} has other entries than when they were copied"
                )));
            }
            for leaf in leaves.into_iter().skip(known) {
                self.order.next(self.frontier.size(), &leaf);
                self.frontier.append_with(leaf.hash(), |level, index, hash| self.tiles.closed(level, index, hash));
                self.tiles.push(leaf);
            }
            self.tiles.write_full()?;
            progress(self.frontier.size() - before, size - before);
        }
        Ok(())
    }
}

/// Whether leaves come in the order of a log, by the rules that `audit verify` has. The first fault is kept until the leaves are
/// known to be those that the log signed.
struct Order {
    shard: Span,
    time: Timestamp,
    fault: Option<(u64, String)>,
}

impl Order {
    /// Behind the first `before` leaves, of which `last` is the last one, of a shard that has `size` entries by now.
    fn after(before: u64, last: Option<Leaf>, size: u64) -> Self {
        let time = Timestamp::from_millis(last.map_or(0, |leaf| leaf.time_ms));
        let shard = Span { entries: 0..size, end: SpanEnd::Unknown };
        // It may have closed its shard, which must not go on then.
        let fault = before.checked_sub(1).zip(last).and_then(|(index, last)| {
            let what = check_kind(index, last.kind, &shard).err()?;
            Some((index, what))
        });
        Self { shard, time, fault }
    }

    fn next(&mut self, index: u64, leaf: &Leaf) {
        let time = Timestamp::from_millis(leaf.time_ms);
        // Where a shard opens by a clock that an operator accepted, the entry before it is in another tree.
        let checked = check_kind(index, leaf.kind, &self.shard)
            .and_then(|()| check_time(self.time, time, None).map_err(str::to_owned));
        if let (Err(what), None) = (checked, &self.fault) {
            self.fault = Some((index, what));
        }
        self.time = self.time.max(time);
    }

    fn check(self) -> Result<(), MirrorError> {
        self.fault.map_or(Ok(()), |(index, what)| Err(MirrorError::OutOfOrder { index, what }))
    }
}

fn open_checkpoint(note: &[u8], key: &VerifierKey, place: &str) -> Result<Checkpoint, MirrorError> {
    let text = std::str::from_utf8(note)
        .map_err(|_| MirrorError::Source(place.to_owned(), "it is not UTF-8, so it is no checkpoint".to_owned()))?;
    Checkpoint::open(text, key, key.name()).map_err(|error| MirrorError::Unsound(place.to_owned(), error))
}
