//! Writers on an engine without a server: as many entries as the disk takes, and folds under way beside them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois::config::Loaded;
use unefois_audit::{Hash, VerifierKey};
use unefois_consent::Event;
use unefois_consent::event::{Actor, TraceScope, TracesRead};
use unefois_consent::registry::Role;
use unefois_engine::consents::{Indication, RecordCall, Terms};
use unefois_engine::store::Fold;
use unefois_engine::{Clock, Engine, EngineError, EngineParts, SystemClock, VerifiedParticipant};
use unefois_proto::v1;
use unefois_store::{EmbeddedStore, Options};

use crate::ask::grant;
use crate::caller::department;
use crate::told::Told;

/// Opens the store in `data` and an engine on it, with the key and the registry of the broker in `folder`.
pub async fn open(folder: &Path, data: &Path, options: &Options) -> Result<(EmbeddedStore, Arc<Engine>), String> {
    open_with(folder, data, options, |fold| fold).await
}

/// Like [`open`], with another fold over that of the store.
pub async fn open_with(
    folder: &Path,
    data: &Path,
    options: &Options,
    over: impl FnOnce(Arc<dyn Fold>) -> Arc<dyn Fold>,
) -> Result<(EmbeddedStore, Arc<Engine>), String> {
    open_by(Arc::new(SystemClock), folder, data, options, over).await
}

/// Like [`open_with`], by another clock.
pub async fn open_by(
    clock: Arc<dyn Clock>,
    folder: &Path,
    data: &Path,
    options: &Options,
    over: impl FnOnce(Arc<dyn Fold>) -> Arc<dyn Fold>,
) -> Result<(EmbeddedStore, Arc<Engine>), String> {
    let loaded = Loaded::open(&folder.join("unefois.toml")).unwrap();
    let store = EmbeddedStore::open(data, options).map_err(|error| error.to_string())?;
    let parts = EngineParts {
        journal: store.journal.clone(),
        fold: over(store.fold.clone()),
        keys: store.keys.clone(),
        head: store.head.clone(),
        signer: loaded.signer,
        clock,
        sources: loaded.connectors,
        first_registry: loaded.registry,
    };
    let engine = Engine::open(parts, &mut |_, _| {}).await.map_err(|error| error.to_string())?;
    Ok((store, Arc::new(engine)))
}

/// Ends the engine and closes the store.
pub async fn close(store: EmbeddedStore, engine: Arc<Engine>) {
    tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
    drop(store);
}

/// An entry that follows from every log of this registry.
pub fn entry(engine: &Engine) -> Event {
    let registry = engine.registry().registry.to_file();
    let held = registry.participants.iter().flat_map(|p| p.keys.iter().map(move |key| (p.siret, key)));
    let (participant, key) = held.into_iter().find(|(_, key)| key.roles.contains(&Role::Audit)).unwrap();
    let by = Actor { participant, key: key.fingerprint };
    Event::TracesRead(TracesRead { by, scope: TraceScope::Entries { from: 0, to: 1 } })
}

/// Records a consent of person `n` to `caller`, which must be the department: an entry that adds rows to the fold.
pub async fn consent(
    engine: &Engine,
    caller: VerifiedParticipant,
    n: usize,
    deadline: Instant,
) -> Result<(), EngineError> {
    let letters = [n / 17_576 % 26, n / 676 % 26, n / 26 % 26, n % 26];
    let letters = letters.map(|letter| char::from(b'A' + u8::try_from(letter).unwrap()));
    let wanted = grant(&format!("PERSONNE {}", String::from_iter(letters)));
    engine.record_consent(record_call(caller, &wanted), deadline).await.map(drop)
}

/// The call that `wanted` makes of the engine.
pub fn record_call(caller: VerifiedParticipant, wanted: &v1::RecordConsentRequest) -> RecordCall {
    let wanted = unefois_proto::consent::record(wanted).unwrap();
    RecordCall {
        agent: wanted.agent,
        identity: wanted.identity,
        terms: Terms {
            consumer: caller.participant(),
            procedure: wanted.terms.procedure,
            attributes: wanted.terms.attributes,
            recipients: wanted.terms.recipients,
            filters: wanted.terms.filters,
            period: wanted.terms.period,
            notice_version: wanted.terms.notice_version,
            language: wanted.terms.language,
            not_before: wanted.terms.not_before,
            expires_at: wanted.terms.expires_at,
            usage: wanted.terms.usage,
            data_life: wanted.terms.data_life,
        },
        caller,
        indication: Indication {
            channel: wanted.indication.channel,
            evidence: wanted.indication.evidence,
            assurance: wanted.indication.assurance,
            mandate: wanted.indication.mandate,
        },
        answers: wanted.answers,
    }
}

/// Writes from `writers` at once, `each` entries, and one consent for each ten of them. `say` hears of each that was told
/// its place, at once, in a line that [`told`] reads.
pub async fn write(
    engine: &Arc<Engine>,
    key: &VerifierKey,
    writers: usize,
    each: usize,
    say: fn(&str),
) -> Result<(), EngineError> {
    let writing: Vec<_> = (0..writers)
        .map(|writer| {
            let (engine, key, event) = (Arc::clone(engine), key.clone(), entry(engine));
            let department = department(&engine);
            tokio::spawn(async move {
                for n in 0..each {
                    let deadline = Instant::now() + Duration::from_secs(30);
                    let verified = engine.append(event.clone(), deadline).await?.verify(&key).unwrap();
                    let (leaf, checkpoint) = (verified.leaf.hash(), verified.checkpoint);
                    say(&format!("told {} {leaf} {} {}", verified.index, checkpoint.size, checkpoint.root));
                    if n.is_multiple_of(10) {
                        consent(&engine, department.clone(), writer * each + n, deadline).await?;
                    }
                }
                Ok(())
            })
        })
        .collect();
    let mut outcome = Ok(());
    for writer in writing {
        outcome = outcome.and(writer.await.unwrap());
    }
    outcome
}

/// Adds to `told` what a whole line of [`write()`] says. Other lines are none.
pub fn told(line: &str, told: &mut Told) {
    let Some(parts) = line.strip_prefix("told ") else { return };
    let parts: Vec<&str> = parts.split(' ').collect();
    let [index, leaf, size, root] = parts[..] else { panic!("{line}") };
    let hash = |text: &str| Hash::from_hex(text).unwrap();
    told.answers.insert(index.parse().unwrap(), hash(leaf));
    let before = told.heads.insert(size.parse().unwrap(), hash(root));
    assert!(before.is_none_or(|before| before == hash(root)), "two heads of size {size}");
}
