//! Where a log is read from, within bounds: nothing of what is shown there is believed.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use reqwest::{Response, StatusCode};
use unefois_audit::tile::TILE_WIDTH;
use unefois_audit::{Leaf, TileKind, TilePath};

use super::{MAX_TILE, MirrorError};

/// Patience for one answer of the log.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a busy log is asked again, a second later.
const RETRIES: u32 = 5;

/// Where a log is read from: an address or a folder of the same layout.
#[derive(Debug)]
pub enum Source {
    /// An address, without a slash at its end.
    Address(String, reqwest::Client),
    /// A folder.
    Folder(PathBuf),
}

/// Why a file was not read.
enum Unread {
    /// It is not shown.
    Missing(String),
    /// Anything else.
    Failed(String),
}

impl Source {
    /// An `http://` or `https://` address, else a folder.
    ///
    /// # Errors
    /// [`MirrorError::Source`] where no HTTP client can be made.
    pub fn new(text: &str) -> Result<Self, MirrorError> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Ok(Self::Folder(text.into()));
        }
        // Another part of the process may have set it already, to the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // What is compressed is bounded and read here.
        let builder = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        let client = builder.no_gzip().build();
        let client = client.map_err(|error| MirrorError::Source(text.to_owned(), error.to_string()))?;
        Ok(Self::Address(text.trim_end_matches('/').to_owned(), client))
    }

    /// The file at `path`, of `most` bytes at most.
    pub(super) async fn read(&self, path: &str, most: usize) -> Result<Vec<u8>, MirrorError> {
        self.try_read(path, most).await.map_err(|unread| self.error(path, unread))
    }

    /// A tile or an entry bundle. A log may have deleted a partial one whose full one it shows (C2SP tlog-tiles): then this is the
    /// beginning of that.
    pub(super) async fn read_tile(&self, tile: TilePath) -> Result<Vec<u8>, MirrorError> {
        let path = tile.to_string();
        let missing = match self.try_read(&path, MAX_TILE).await {
            Ok(bytes) => return Ok(bytes),
            Err(missing @ Unread::Missing(_)) if tile.is_partial() => missing,
            Err(unread) => return Err(self.error(&path, unread)),
        };
        let full = TilePath::new(tile.kind(), tile.index(), TILE_WIDTH as u16)
            .map_err(|error| MirrorError::Unsound(path.clone(), error))?;
        match self.try_read(&full.to_string(), MAX_TILE).await {
            Ok(mut bytes) => {
                bytes.truncate(usize::from(tile.width()) * node_bytes(tile.kind()));
                Ok(bytes)
            }
            Err(Unread::Missing(_)) => Err(self.error(&path, missing)),
            Err(unread) => Err(self.error(&full.to_string(), unread)),
        }
    }

    async fn try_read(&self, path: &str, most: usize) -> Result<Vec<u8>, Unread> {
        match self {
            Self::Folder(folder) => {
                let unread = |error: io::Error| {
                    let is_missing = error.kind() == io::ErrorKind::NotFound;
                    if is_missing { Unread::Missing(error.to_string()) } else { Unread::Failed(error.to_string()) }
                };
                read_at_most(&folder.join(path), most).map_err(unread)
            }
            Self::Address(base, client) => get(client, &format!("{base}/{path}"), most).await,
        }
    }

    fn error(&self, path: &str, unread: Unread) -> MirrorError {
        let place = match self {
            Self::Folder(folder) => folder.join(path).display().to_string(),
            Self::Address(base, _) => format!("{base}/{path}"),
        };
        let (Unread::Missing(problem) | Unread::Failed(problem)) = unread;
        MirrorError::Source(place, problem)
    }
}

/// Bytes of one hash in a tile, or of one entry in a bundle behind its length.
fn node_bytes(kind: TileKind) -> usize {
    match kind {
        TileKind::Hashes { .. } => 32,
        TileKind::Entries => 2 + Leaf::LEN,
    }
}

async fn get(client: &reqwest::Client, url: &str, most: usize) -> Result<Vec<u8>, Unread> {
    let failed = |error: reqwest::Error| Unread::Failed(crate::client::chain(&error));
    let mut tried = 0;
    loop {
        let request = client.get(url).header(ACCEPT_ENCODING, "gzip, identity");
        let response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => return body(response, most).await,
            StatusCode::SERVICE_UNAVAILABLE if tried < RETRIES => {
                tried += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            StatusCode::GONE => {
                let problem =
                    "the log does not show entries of so long ago any more; begin with a copy that somebody kept";
                return Err(Unread::Failed(problem.to_owned()));
            }
            StatusCode::NOT_FOUND => return Err(Unread::Missing("the log does not show it".to_owned())),
            status => return Err(Unread::Failed(format!("the log answers {status}"))),
        }
    }
}

/// The body of an answer, which a log may compress without being asked (C2SP tlog-tiles). Both what comes and what it becomes
/// have `most` bytes at most.
async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, Unread> {
    let encoding = response.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase());
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Unread::Failed(crate::client::chain(&error)))? {
        if bytes.len() + chunk.len() > most {
            return Err(too_long(most));
        }
        bytes.extend_from_slice(&chunk);
    }
    match encoding.as_deref() {
        None | Some(b"identity") => Ok(bytes),
        Some(b"gzip" | b"x-gzip") => decompress(&bytes, most),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            Err(Unread::Failed(format!("the answer is encoded as {other}, and gzip alone is read")))
        }
    }
}

fn decompress(compressed: &[u8], most: usize) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    let read = MultiGzDecoder::new(compressed).take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Unread::Failed(format!("the answer is no whole gzip: {error}")))?;
    if bytes.len() > most { Err(too_long(most)) } else { Ok(bytes) }
}

fn too_long(most: usize) -> Unread {
    Unread::Failed(format!("the answer is longer than {most} bytes"))
}

/// Reads a file of `most` bytes at most.
pub(super) fn read_at_most(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > most as u64 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    fs::read(path)
}
