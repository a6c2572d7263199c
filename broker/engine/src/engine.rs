//! The engine: what opens a store, keeps its threads and answers the services.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arc_swap::{ArcSwap, ArcSwapOption};
use unefois_audit::Frontier;
use unefois_connectors::Guarded;
use unefois_consent::event::{Event, Failed, FailureCause, LogOpened, RulesChanged};
use unefois_consent::id::ConnectorName;
use unefois_consent::registry::RegistryFile;
use unefois_consent::{Digest, RecordPeriod, Retention, Rules, Timestamp};

use crate::clock::Clock;
use crate::clock_guard::{ClockFault, ClockGuard, shows_a_right_day};
use crate::committer::{Committer, FoldWriter, SignedHead};
use crate::consents::LedgerSteps;
use crate::error::EngineError;
use crate::exchange::{ExchangeAnswer, ExchangeCall, Exchanges};
use crate::halt::Halt;
use crate::head::Keeper;
use crate::open::{Opened, open};
use crate::registry::{Apply, RegistryView, change, publish};
use crate::seal::{Opener, Sealer};
use crate::sequencer::{Sequencer, SequencerParts, Turn};
use crate::shard::Shards;
use crate::signer::Signer;
use crate::state::{State, Sweeper};
use crate::store::{Fold, HeadFile, Journal, RecordKeys};
use crate::subject::Tagger;
use crate::watch::Watch;

/// What an engine works with.
#[derive(Debug)]
pub struct EngineParts {
    /// The truth.
    pub journal: Arc<dyn Journal>,
    /// Rows derived from it.
    pub fold: Arc<dyn Fold>,
    /// Keys of records and subjects.
    pub keys: Arc<dyn RecordKeys>,
    /// The newest head, kept apart.
    pub head: Arc<dyn HeadFile>,
    /// Key of the log.
    pub signer: Arc<dyn Signer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Connectors by name.
    pub sources: BTreeMap<ConnectorName, Arc<Guarded>>,
    /// The registry that an empty log begins with.
    pub first_registry: RegistryFile,
}

/// What opening tells of its progress: entries read, and entries to read.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A running engine. Dropping it without [`Engine::close`] is like the death of the process: nothing acknowledged is lost.
#[derive(Debug)]
pub struct Engine {
    sequencer: Sequencer,
    exchanges: Arc<Exchanges>,
    journal: Arc<dyn Journal>,
    keys: Arc<dyn RecordKeys>,
    head_file: Arc<dyn HeadFile>,
    opener: Arc<Opener>,
    tagger: Arc<Tagger>,
    head: Arc<ArcSwap<SignedHead>>,
    shards: Shards,
    published: ArcSwapOption<SignedHead>,
    /// Last heads of closed shards that were published with cosignatures, by the shard's first entry.
    published_closed: ArcSwap<BTreeMap<u64, Arc<SignedHead>>>,
    registry: Arc<ArcSwap<RegistryView>>,
    halt: Arc<Halt>,
    /// Steps of the ledger so far, for whoever watches it.
    ledger: Arc<LedgerSteps>,
    /// Held by a purge: there is one at a time.
    purging: tokio::sync::Mutex<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    clock: Arc<dyn Clock>,
    clock_guard: Arc<ClockGuard>,
}

/// The engine's threads and the ways to them.
struct Running {
    sequencer: Sequencer,
    clock_guard: Arc<ClockGuard>,
    /// In the order in which they end.
    threads: Vec<JoinHandle<()>>,
}

/// After the last commit nothing is left to keep or to watch: whether the engine was closed or dropped.
struct LastCommit {
    keeper: Arc<Keeper>,
    watch: Arc<Watch>,
}

impl Drop for LastCommit {
    fn drop(&mut self) {
        self.watch.close();
        // It writes the last head before it ends.
        self.keeper.close();
    }
}

impl Running {
    fn start(
        parts: &EngineParts,
        state: State,
        (shard, frontier): (u64, Frontier),
        head: &Arc<ArcSwap<SignedHead>>,
        halt: &Arc<Halt>,
    ) -> Result<Self, EngineError> {
        let (to_commit, batches) = crossbeam_channel::bounded(1);
        let (ready_sender, ready) = crossbeam_channel::bounded(1);
        let (to_fold, chunks) = crossbeam_channel::bounded(1);
        let (folded_sender, folded) = crossbeam_channel::bounded(1);
        let committer = Committer {
            batches,
            ready: ready_sender,
            to_fold,
            journal: Arc::clone(&parts.journal),
            signer: Arc::clone(&parts.signer),
            shard,
            frontier,
            head: Arc::clone(head),
            halt: Arc::clone(halt),
            entries: metrics::counter!("unefois_entries_total"),
            seconds: metrics::histogram!("unefois_commit_seconds"),
        };
        let fold_writer = FoldWriter {
            chunks,
            folded: folded_sender,
            fold: Arc::clone(&parts.fold),
            met: state.met(),
            sweeper: Sweeper::new(Arc::clone(state.purged())),
            position: state.size(),
            halt: Arc::clone(halt),
        };
        let keeper = Arc::new(Keeper::new(Arc::clone(&parts.head), Arc::clone(head), Arc::clone(halt)));
        let last = (state.size() > 0).then(|| state.time());
        let clock_guard = ClockGuard::new(Arc::clone(&parts.clock), last);
        let is_seasoned = shows_a_right_day(&*parts.journal, parts.clock.now())?;
        let clock_guard = Arc::new(if is_seasoned { clock_guard.after_a_right_day() } else { clock_guard });
        let sequencer_parts = SequencerParts {
            state,
            clock: Arc::clone(&clock_guard),
            journal: Arc::clone(&parts.journal),
            halt: Arc::clone(halt),
            keeper: Arc::clone(&keeper),
            to_commit,
            ready,
            folded,
        };
        let watch = Arc::new(Watch::new(parts, halt));
        let (keeps, watches) = (Arc::clone(&keeper), Arc::clone(&watch));
        let keeper_thread = halt.spawn("unefois-head", move || keeps.run())?;
        let watch_thread = halt.spawn("unefois-watch", move || watches.run())?;
        let last = LastCommit { keeper: Arc::clone(&keeper), watch };
        let commit_thread = halt.spawn("unefois-commit", move || {
            let _last = last;
            committer.run();
        })?;
        let fold_thread = halt.spawn("unefois-fold", move || fold_writer.run())?;
        let (sequencer, sequence_thread) = Sequencer::start(sequencer_parts, Sealer::new(Arc::clone(&parts.keys)))?;
        let threads = vec![sequence_thread, commit_thread, fold_thread, watch_thread, keeper_thread];
        Ok(Self { sequencer, clock_guard, threads })
    }
}

impl Engine {
    /// Verifies the store's end, brings the fold up to date, and goes on where the log stopped: an empty log gets its
    /// first entries, an exchange that was under way gets its end.
    pub async fn open(parts: EngineParts, progress: Progress<'_>) -> Result<Self, EngineError> {
        let Opened { state, head, frontier, shards, subject_key } = open(&parts, progress)?;
        let tree = (head.shard, frontier);
        let subject_check = subject_key.check();
        let tagger = Arc::new(Tagger::new(&subject_key));
        let opener = Arc::new(Opener::new(Arc::clone(&parts.keys)));
        let halt = Arc::new(Halt::default());
        let head = Arc::new(ArcSwap::from_pointee(head));
        let registry = RegistryView { version: state.registry_version(), registry: Arc::clone(state.registry()) };
        let Running { sequencer, clock_guard, threads } = Running::start(&parts, state, tree, &head, &halt)?;
        let registry = Arc::new(ArcSwap::from_pointee(registry));
        let exchanges = Arc::new(Exchanges::new(
            sequencer.clone(),
            parts.sources,
            Arc::clone(&tagger),
            Arc::clone(&parts.clock),
            Arc::clone(&registry),
            parts.signer.verifier_key().name().to_owned(),
        ));
        let engine = Self {
            sequencer,
            exchanges,
            journal: parts.journal,
            keys: parts.keys,
            head_file: parts.head,
            opener,
            tagger,
            head,
            shards,
            published: ArcSwapOption::empty(),
            published_closed: ArcSwap::default(),
            registry,
            halt,
            ledger: Arc::default(),
            purging: tokio::sync::Mutex::default(),
            threads: Mutex::new(threads),
            clock: parts.clock,
            clock_guard,
        };
        engine.go_on(&*parts.signer, subject_check, parts.first_registry).await?;
        engine.finish_purges().await?;
        Ok(engine)
    }

    /// The first entries of an empty log, and the end of every exchange that was under way.
    async fn go_on(
        &self,
        signer: &dyn Signer,
        subject_key: Digest,
        first_registry: RegistryFile,
    ) -> Result<(), EngineError> {
        let key = signer.verifier_key();
        let opened = LogOpened {
            origin: key.name().to_owned(),
            verifier_key: key.to_string(),
            rules: Rules::NEWEST,
            subject_key,
            previous: None,
            clock: None,
        };
        let shard_opens = self.head().size == 1;
        let step = move |turn: &mut Turn<'_>| {
            // The entry that opened it came alone, perhaps as the first of its month.
            let opening = RecordPeriod::new(turn.state().time(), Retention::LOG);
            if shard_opens && turn.state().key_check(opening).is_none() {
                turn.know_key(Retention::LOG)?;
            }
            if turn.state().size() == 0 {
                turn.append(&Event::LogOpened(opened))?;
                turn.know_key(Retention::TRACES)?;
                let version = turn.state().registry_version();
                change(turn, None, first_registry, Apply::IfVersion(version))?;
            }
            let registry = Arc::clone(turn.state().registry());
            Ok(RegistryView { version: turn.state().registry_version(), registry })
        };
        publish(&self.registry, self.sequencer.submit_in_doubt(step).await?.value);
        let mut interrupted = 0;
        loop {
            match self.sequencer.submit_in_doubt(end_interrupted).await?.value {
                0 => break,
                ended => interrupted += ended,
            }
        }
        if interrupted > 0 {
            tracing::warn!(interrupted, "exchanges that were under way when the broker stopped are logged as failed");
        }
        Ok(())
    }

    /// Lets other rules decide from the next entry on.
    ///
    /// # Errors
    /// [`EngineError::Malformed`] where this program does not have them; [`EngineError::WrongState`] where they are in force, or an
    /// exchange is under way that began by other rules.
    pub async fn change_rules(&self, rules: Rules) -> Result<u64, EngineError> {
        rules.check()?;
        let step = move |turn: &mut Turn<'_>| {
            if turn.state().rules() == rules {
                return Err(EngineError::WrongState("these rules are in force already"));
            }
            if !turn.state().open().is_empty() {
                return Err(EngineError::WrongState("exchanges are under way; rules change between them"));
            }
            Ok(turn.append(&Event::RulesChanged(RulesChanged { rules }))?.index)
        };
        Ok(self.sequencer.submit_to_end(step).await?.value)
    }

    /// Now, by the clock that the log goes by.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Runs one exchange. Its caller may go away; the exchange goes on to its logged end.
    pub async fn exchange(&self, call: ExchangeCall) -> Result<Arc<ExchangeAnswer>, EngineError> {
        self.exchanges.run(call).await
    }

    /// The registry after its last acknowledged change.
    pub fn registry(&self) -> Arc<RegistryView> {
        self.registry.load_full()
    }

    /// Waits until the engine has stopped by itself, and says why.
    pub async fn halted(&self) -> EngineError {
        self.halt.halted().await
    }

    /// Fails where the engine has stopped, has no room for the next entry, waits for its witnesses, or doubts the clock.
    pub fn ready(&self) -> Result<(), EngineError> {
        self.halt.ready()?;
        Ok(self.check_clock()?)
    }

    /// Fails while the clock is in doubt.
    pub fn check_clock(&self) -> Result<(), ClockFault> {
        self.clock_guard.now().map(drop)
    }

    /// Fails once the engine has stopped by itself.
    pub fn check(&self) -> Result<(), EngineError> {
        self.halt.check()
    }

    /// Ends the threads after what they have is durable and folded. Calls that come later are refused. Blocks.
    pub fn close(&self) {
        self.sequencer.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // A thread that panicked has halted the engine already.
        for thread in threads {
            let _ = thread.join();
        }
    }

    pub(crate) fn purging(&self) -> &tokio::sync::Mutex<()> {
        &self.purging
    }

    pub(crate) fn exchanges(&self) -> &Exchanges {
        &self.exchanges
    }

    pub(crate) fn current_registry(&self) -> &Arc<ArcSwap<RegistryView>> {
        &self.registry
    }

    pub(crate) fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    pub(crate) fn ledger(&self) -> &Arc<LedgerSteps> {
        &self.ledger
    }

    pub(crate) fn tagger(&self) -> &Tagger {
        &self.tagger
    }

    pub(crate) fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// The shards of the log, as they were when it was opened.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    pub(crate) fn head_file(&self) -> &dyn HeadFile {
        &*self.head_file
    }

    pub(crate) fn clock_guard(&self) -> &ClockGuard {
        &self.clock_guard
    }

    pub(crate) fn keys(&self) -> &Arc<dyn RecordKeys> {
        &self.keys
    }

    pub(crate) fn opener(&self) -> &Arc<Opener> {
        &self.opener
    }

    pub(crate) fn halt(&self) -> &Halt {
        &self.halt
    }

    pub(crate) fn shared_published(&self) -> &ArcSwapOption<SignedHead> {
        &self.published
    }

    pub(crate) fn shared_published_closed(&self) -> &ArcSwap<BTreeMap<u64, Arc<SignedHead>>> {
        &self.published_closed
    }

    pub(crate) fn shared_head(&self) -> &ArcSwap<SignedHead> {
        &self.head
    }
}

/// Most entries of one step that ends interrupted exchanges.
const ENDED_AT_ONCE: usize = 4_096;

/// Logs the end of some of the exchanges that were under way when the broker stopped; says of how many.
fn end_interrupted(turn: &mut Turn<'_>) -> Result<usize, EngineError> {
    let some = turn.state().open().iter().take(ENDED_AT_ONCE);
    let interrupted: Vec<_> = some.map(|(index, open)| (*index, open.clone())).collect();
    for (requested, open) in &interrupted {
        turn.append(&Event::Failed(Failed {
            exchange: open.exchange,
            requested: *requested,
            subject: open.subject,
            cause: FailureCause::BrokerStopped,
        }))?;
    }
    Ok(interrupted.len())
}
