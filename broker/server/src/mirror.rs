//! A mirror of a public log: a copy in the same layout (C2SP tlog-tiles), for whoever keeps watch over an administration.
//!
//! Every leaf is fetched, and the tree is hashed again from the leaves: the copy goes on exactly where it stopped and must
//! lead to the root that the log signed. A log that changed, dropped or moved an entry cannot, and one that shows a smaller
//! tree than before is caught too. Nothing of the copy changes then, so that both sides remain as proof.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use unefois_audit::tile::{TILE_HEIGHT, TILE_WIDTH, nodes_at};
use unefois_audit::{
    AuditError, Checkpoint, Frontier, Hash, Leaf, Policy, TileHashes, TileKind, TileNodes, TilePath, VerifierKey,
    decode_bundle, decode_tile, encode_bundle, encode_tile, frontier_at,
};

/// Longest checkpoint that is read, in bytes.
const MAX_CHECKPOINT: usize = 64 << 10;
/// Longest tile or bundle, in bytes.
const MAX_TILE: usize = 256 * 64;
/// Patience for one answer of the log.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a busy log is asked again, a second later.
const RETRIES: u32 = 5;

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
    /// The copy does not lead to the root of its own checkpoint.
    #[error(
        "the copy in {0} was changed: it does not lead to the root of its checkpoint; begin another in an empty folder"
    )]
    Changed(PathBuf),
}

/// Where a log is read from: an address or a folder of the same layout.
#[derive(Debug)]
pub enum Source {
    /// An address, without a slash at its end.
    Address(String, reqwest::Client),
    /// A folder.
    Folder(PathBuf),
}

impl Source {
    /// An `http://` or `https://` address, else a folder.
    pub fn new(text: &str) -> Result<Self, MirrorError> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Ok(Self::Folder(text.into()));
        }
        // Another part of the process may have set it already, to the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| MirrorError::Source(text.to_owned(), error.to_string()))?;
        Ok(Self::Address(text.trim_end_matches('/').to_owned(), client))
    }

    async fn read(&self, path: &str, most: usize) -> Result<Vec<u8>, MirrorError> {
        let (place, read) = match self {
            Self::Folder(folder) => {
                let place = folder.join(path);
                (place.display().to_string(), read_at_most(&place, most).map_err(|error| error.to_string()))
            }
            Self::Address(base, client) => {
                let url = format!("{base}/{path}");
                let read = get(client, &url, most).await;
                (url, read)
            }
        };
        read.map_err(|error| MirrorError::Source(place, error))
    }
}

async fn get(client: &reqwest::Client, url: &str, most: usize) -> Result<Vec<u8>, String> {
    let mut tried = 0;
    loop {
        let mut response = client.get(url).send().await.map_err(|error| crate::client::chain(&error))?;
        if response.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE && tried < RETRIES {
            tried += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        if response.status() == reqwest::StatusCode::GONE {
            return Err("the log does not show entries of so long ago any more; begin with a copy that somebody kept"
                .to_owned());
        }
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("the log answers {}", response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| crate::client::chain(&error))? {
            if bytes.len() + chunk.len() > most {
                return Err(format!("the answer is longer than {most} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        return Ok(bytes);
    }
}

fn read_at_most(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > most as u64 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    fs::read(path)
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
    pub async fn update(
        &mut self,
        source: &Source,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Update, MirrorError> {
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
        let mut frontier = self.frontier.clone();
        let mut tiles = NewTiles::after(&self.folder, before)?;
        let width = TILE_WIDTH as u64;
        while frontier.size() < head.size {
            let bundle = TilePath::at_size(TileKind::Entries, frontier.size() / width, head.size);
            let Some(bundle) = bundle else { break };
            let bytes = source.read(&bundle.to_string(), MAX_TILE).await?;
            let leaves = decode_bundle(&bytes).map_err(|error| MirrorError::Unsound(bundle.to_string(), error))?;
            if leaves.len() != usize::from(bundle.width()) {
                return Err(MirrorError::Source(
                    bundle.to_string(),
                    "it has not the entries that it should".to_owned(),
                ));
            }
            let known = (frontier.size() - bundle.start()) as usize;
            for leaf in leaves.into_iter().skip(known) {
                frontier.append_with(leaf.hash(), |level, index, hash| tiles.closed(level, index, hash));
                tiles.leaves.push(leaf);
            }
            tiles.write_full()?;
            progress(frontier.size() - before, head.size - before);
        }
        if frontier.root() != head.root {
            return Err(MirrorError::Contradiction(format!(
                "its entries do not lead from the tree of {before} entries that it signed to the tree of {} that it signs now",
                head.size
            )));
        }
        if head.size > before || before == 0 {
            tiles.write_partial()?;
            write(&self.folder.join("checkpoint"), &note)?;
            remove_partial(&self.folder, before, head.size);
        }
        self.frontier = frontier;
        Ok(Update { before, after: head.size })
    }
}

fn open_checkpoint(note: &[u8], key: &VerifierKey, place: &str) -> Result<Checkpoint, MirrorError> {
    let text = std::str::from_utf8(note)
        .map_err(|error| MirrorError::Source(place.to_owned(), format!("it is no text: {error}")))?;
    Checkpoint::open(text, key, key.name()).map_err(|error| MirrorError::Unsound(place.to_owned(), error))
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), MirrorError> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let draft = path.with_extension("draft");
        let mut file = fs::File::create(&draft)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| MirrorError::Copy { path: path.to_owned(), error })
}

/// The tiles of a copy at one size.
struct AtSize<'a> {
    folder: &'a Path,
    size: u64,
}

impl AtSize<'_> {
    fn read(&self, kind: TileKind, index: u64) -> Result<Vec<u8>, MirrorError> {
        let Some(tile) = TilePath::at_size(kind, index, self.size) else { return Ok(Vec::new()) };
        let path = self.folder.join(tile.to_string());
        read_at_most(&path, MAX_TILE).map_err(|error| MirrorError::Copy { path, error })
    }
}

impl TileHashes for AtSize<'_> {
    type Error = MirrorError;

    fn hashes(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, MirrorError> {
        let hashes = decode_tile(&self.read(TileKind::Hashes { level }, start >> TILE_HEIGHT)?);
        let within = (start % TILE_WIDTH as u64) as usize;
        Ok(hashes.get(within..within + count).unwrap_or_default().to_vec())
    }
}

/// Tiles that an update fills. Those that the copy's checkpoint needs are never touched.
struct NewTiles<'a> {
    folder: &'a Path,
    /// Leaves of the bundle under way.
    leaves: Vec<Leaf>,
    bundle: u64,
    /// Hashes of the tile under way, and its index, by tile level.
    hashes: BTreeMap<u8, (u64, Vec<Hash>)>,
}

impl<'a> NewTiles<'a> {
    /// Goes on from the partial tiles of the copy at `size`.
    fn after(folder: &'a Path, size: u64) -> Result<Self, MirrorError> {
        let width = TILE_WIDTH as u64;
        let edge = AtSize { folder, size };
        let mut hashes = BTreeMap::new();
        for level in (0..8).take_while(|level| nodes_at(*level, size) > 0) {
            let count = nodes_at(level, size);
            let index = count / width;
            let partial = edge.hashes(level, index * width, (count % width) as usize)?;
            if partial.len() as u64 != count % width {
                return Err(MirrorError::Changed(folder.to_owned()));
            }
            hashes.insert(level, (index, partial));
        }
        let bundle = size / width;
        let leaves = match size % width {
            0 => Vec::new(),
            _ => {
                let bytes = edge.read(TileKind::Entries, bundle)?;
                decode_bundle(&bytes).map_err(|_| MirrorError::Changed(folder.to_owned()))?
            }
        };
        Ok(Self { folder, leaves, bundle, hashes })
    }

    /// Keeps a complete subtree if it is one of those that tiles hold.
    fn closed(&mut self, level: u8, index: u64, hash: Hash) {
        if level.is_multiple_of(TILE_HEIGHT) {
            let tile = index / TILE_WIDTH as u64;
            self.hashes.entry(level / TILE_HEIGHT).or_insert((tile, Vec::new())).1.push(hash);
        }
    }

    /// Writes the tiles that are full.
    fn write_full(&mut self) -> Result<(), MirrorError> {
        if self.leaves.len() == TILE_WIDTH {
            self.write(TileKind::Entries, self.bundle, &encode_bundle(&self.leaves), TILE_WIDTH)?;
            self.leaves.clear();
            self.bundle += 1;
        }
        let full: Vec<u8> =
            self.hashes.iter().filter(|(_, (_, hashes))| hashes.len() == TILE_WIDTH).map(|(level, _)| *level).collect();
        for level in full {
            if let Some((index, hashes)) = self.hashes.remove(&level) {
                self.write(TileKind::Hashes { level }, index, &encode_tile(&hashes), TILE_WIDTH)?;
                self.hashes.insert(level, (index + 1, Vec::new()));
            }
        }
        Ok(())
    }

    /// Writes the tiles at the right edge.
    fn write_partial(&self) -> Result<(), MirrorError> {
        if !self.leaves.is_empty() {
            self.write(TileKind::Entries, self.bundle, &encode_bundle(&self.leaves), self.leaves.len())?;
        }
        for (level, (index, hashes)) in self.hashes.iter().filter(|(_, (_, hashes))| !hashes.is_empty()) {
            self.write(TileKind::Hashes { level: *level }, *index, &encode_tile(hashes), hashes.len())?;
        }
        Ok(())
    }

    fn write(&self, kind: TileKind, index: u64, bytes: &[u8], width: usize) -> Result<(), MirrorError> {
        let path = TilePath::new(kind, index, width as u16)
            .map_err(|error| MirrorError::Unsound("a tile".to_owned(), error))?;
        write(&self.folder.join(path.to_string()), bytes)
    }
}

/// Removes the partial tiles of the tree of `before` leaves that the tree of `after` has wider or whole. They cost only
/// room, so a failure is of no account.
fn remove_partial(folder: &Path, before: u64, after: u64) {
    let kinds = (0..8).map(|level| TileKind::Hashes { level }).chain([TileKind::Entries]);
    for kind in kinds {
        let level = if let TileKind::Hashes { level } = kind { level } else { 0 };
        let index = nodes_at(level, before) / TILE_WIDTH as u64;
        let (old, new) = (TilePath::at_size(kind, index, before), TilePath::at_size(kind, index, after));
        if let Some(old) = old.filter(|old| old.is_partial() && Some(*old) != new) {
            let _ = fs::remove_file(folder.join(old.to_string()));
        }
    }
}
