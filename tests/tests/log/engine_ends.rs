//! The beginning and the end of an engine: a first registry that one commit does not hold, and an engine that is dropped without
//! being closed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use unefois::config::Loaded;
use unefois::init::{Layout, init};
use unefois_consent::event::{Event, RegistryChanged};
use unefois_consent::registry::{Registry, RegistryFile};
use unefois_engine::store::{HeadFile, Journal};
use unefois_engine::{Engine, EngineError, EngineParts, SystemClock};
use unefois_store::MemoryStore;
use unefois_tests::ask::until;

/// An engine on an empty store, with this first registry.
fn parts(folder: &Path, memory: &Arc<MemoryStore>, registry: impl FnOnce(&mut RegistryFile)) -> EngineParts {
    let made = init(&folder.join("broker"), &Layout::development()).unwrap();
    let mut loaded = Loaded::open(&made.config()).unwrap();
    registry(&mut loaded.registry);
    EngineParts {
        journal: memory.clone(),
        fold: memory.clone(),
        keys: memory.clone(),
        head: memory.clone(),
        signer: loaded.signer,
        clock: Arc::new(SystemClock),
        sources: BTreeMap::new(),
        first_registry: loaded.registry,
    }
}

/// Bytes of the records of a first registry.
fn bytes_of(file: &RegistryFile) -> usize {
    let changes = Registry::default().plan(file.clone()).unwrap();
    let events =
        changes.into_iter().map(|change| Event::RegistryChanged(Box::new(RegistryChanged { by: None, change })));
    events.map(|event| serde_json::to_string(&event).unwrap().len()).sum()
}

/// The entry that opens the log is of the same commit.
#[tokio::test]
async fn a_first_registry_that_fits_a_commit_alone_and_not_with_what_comes_before_it_is_refused_by_name() {
    const COMMIT_BYTES: usize = 4 << 20;
    let folder = tempfile::tempdir().unwrap();
    let memory = Arc::new(MemoryStore::new());
    let parts = parts(folder.path(), &memory, |file| {
        let spare = COMMIT_BYTES - bytes_of(file);
        file.habilitations[0].legal_basis.push_str(&"x".repeat(spare));
        assert_eq!(bytes_of(file), COMMIT_BYTES);
    });
    let refused = Engine::open(parts, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(&refused, EngineError::Malformed(fault) if fault.field == "registry"), "{refused}");
    assert_eq!(memory.end().entries(), 0);
}

#[tokio::test]
async fn an_engine_that_is_dropped_leaves_no_thread_behind() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Arc::new(MemoryStore::new());
    let parts = parts(folder.path(), &memory, |_| {});
    let engine = Engine::open(parts, &mut |_, _| {}).await.unwrap();
    let newest = engine.head().note.clone();
    drop(engine);
    // Each of them holds the store.
    until(|| Arc::strong_count(&memory) == 1).await;
    assert_eq!(HeadFile::read(&*memory).unwrap(), Some(newest), "the last head is kept");
}
