//! A public log as a web server shows it (C2SP tlog-tiles): the files of a real one, or of one that somebody signs, with
//! whatever a test changes in them.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_ENCODING;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::task::JoinHandle;
use unefois_audit::tile::{TILE_HEIGHT, TILE_WIDTH};
use unefois_audit::{Checkpoint, Frontier, Hash, Leaf, TileKind, TilePath, encode_bundle, encode_tile};
use unefois_engine::{Ed25519Signer, Signer};

use crate::files;

/// Files by their paths below the log's address.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A key that signs under `origin`.
pub fn signer(origin: &str) -> Ed25519Signer {
    let pkcs8 = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    Ed25519Signer::from_pkcs8(origin, pkcs8.as_ref()).unwrap()
}

/// The files of a copy that a mirror made.
pub fn files_of(folder: &Path) -> Files {
    let path = |file: &Path| file.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    files(folder).iter().map(|file| (path(file), std::fs::read(file).unwrap())).collect()
}

/// Puts the files in a folder.
pub fn write_files(files: &Files, folder: &Path) {
    for (path, bytes) in files {
        let file = folder.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}

/// The files of the log of these leaves.
pub fn signed(leaves: &[Leaf], signer: &dyn Signer) -> Files {
    let mut frontier = Frontier::new();
    let mut hashes: BTreeMap<u8, Vec<Hash>> = BTreeMap::new();
    for leaf in leaves {
        frontier.append_with(leaf.hash(), |level, _, hash| {
            if level % TILE_HEIGHT == 0 {
                hashes.entry(level / TILE_HEIGHT).or_default().push(hash);
            }
        });
    }
    let key = signer.verifier_key();
    let head = Checkpoint { origin: key.name().to_owned(), size: frontier.size(), root: frontier.root() };
    let note = head.signed(&signer.sign(head.note_text().as_bytes()).unwrap(), key.id());
    let mut files = Files::from([("checkpoint".to_owned(), note.into_bytes())]);
    let mut put = |kind, index: usize, width: usize, bytes| {
        let tile = TilePath::new(kind, index as u64, u16::try_from(width).unwrap()).unwrap();
        files.insert(tile.to_string(), bytes);
    };
    for (index, bundle) in leaves.chunks(TILE_WIDTH).enumerate() {
        put(TileKind::Entries, index, bundle.len(), encode_bundle(bundle));
    }
    for (level, hashes) in hashes {
        for (index, tile) in hashes.chunks(TILE_WIDTH).enumerate() {
            put(TileKind::Hashes { level }, index, tile.len(), encode_tile(tile));
        }
    }
    files
}

/// Leaves of a log that begins and goes on, a second apart.
pub fn leaves(count: u64) -> Vec<Leaf> {
    let kind = |n| if n == 0 { unefois_consent::Event::LOG_OPENED } else { unefois_consent::Event::REFUSED };
    let leaf = |n: u64| Leaf { kind: kind(n), time_ms: 1_000 * (n + 1), commitment: Hash([(n % 251) as u8; 32]) };
    (0..count).map(leaf).collect()
}

/// `bytes` as gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a server answers with.
#[derive(Debug, Clone, Default)]
struct Content {
    files: Files,
    /// The `Content-Encoding` of all of them.
    encoding: Option<&'static str>,
}

/// A web server that shows a log.
pub struct Shown {
    /// Where.
    pub url: String,
    content: Arc<Mutex<Content>>,
    serving: JoinHandle<()>,
}

impl Shown {
    /// Shows these files, as they are.
    pub async fn start(files: Files) -> Self {
        let content = Arc::new(Mutex::new(Content { files, encoding: None }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&content));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url: format!("http://{address}"), content, serving }
    }

    /// Shows other files from now on.
    pub fn show(&self, files: Files) {
        *self.content.lock().unwrap() = Content { files, encoding: None };
    }

    /// Shows other files from now on, and says of all of them that they are encoded like this.
    pub fn show_encoded(&self, files: Files, encoding: &'static str) {
        *self.content.lock().unwrap() = Content { files, encoding: Some(encoding) };
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(content): State<Arc<Mutex<Content>>>, uri: Uri) -> Response {
    let content = content.lock().unwrap();
    let Some(bytes) = content.files.get(uri.path().trim_start_matches('/')) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match content.encoding {
        Some(encoding) => ([(CONTENT_ENCODING, encoding)], bytes.clone()).into_response(),
        None => bytes.clone().into_response(),
    }
}
