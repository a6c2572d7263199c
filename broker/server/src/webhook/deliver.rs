//! One webhook at work.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use unefois_consent::Siret;
use unefois_consent::id::WebhookName;
use unefois_engine::consents::{Change, ChangeReader};
use unefois_engine::{Engine, EngineError};

use super::kept::{DeadLetter, Kept};
use super::{OpenWebhook, pause};
use crate::rpc::wire_change;
use crate::text::change_json;

/// Its folder in the data folder.
const FOLDER: &str = "webhooks";
/// With so many dead letters nothing more is given up: the webhook waits for its receiver.
const MAX_DEAD_LETTERS: usize = 1_000;
/// How long one look for changes may take, and the pause after one that failed.
const LOOK: Duration = Duration::from_secs(10);

/// What the receiver, or the way to it, did instead of accepting.
#[derive(Debug)]
struct Failed {
    error: String,
    /// When it wants to be asked again.
    after: Option<Duration>,
}

/// Failures since the last success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) failures: u32,
    pub(crate) error: String,
}

/// What a webhook's owner sees of it.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) cursor: Option<u64>,
    pub(crate) trouble: Trouble,
    pub(crate) dead: Vec<DeadLetter>,
}

/// What became of dead letters that were sent again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    pub(crate) delivered: u32,
    /// Their records were purged meanwhile.
    pub(crate) purged: u32,
    /// What the first that failed met; those after it were not tried.
    pub(crate) error: Option<String>,
}

/// A webhook.
#[derive(Debug)]
pub(crate) struct Webhook {
    name: WebhookName,
    engine: Arc<Engine>,
    open: OpenWebhook,
    file: PathBuf,
    /// Held while the file is written, also where whoever asked for it has gone, so that it never goes back.
    kept: Arc<tokio::sync::Mutex<Kept>>,
    trouble: StdMutex<Trouble>,
}

impl Webhook {
    pub(super) fn start(
        engine: Arc<Engine>,
        data: &Path,
        name: WebhookName,
        open: OpenWebhook,
    ) -> Result<Self, String> {
        let folder = data.join(FOLDER);
        let fault = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(fault)?;
        let file = folder.join(format!("{name}.json"));
        let consumer = open.config.consumer;
        let kept = match Kept::read(&file)? {
            Some(kept) if kept.consumer != consumer => {
                return Err(format!(
                    "{} is of {}, not of {consumer}: give the webhook another name, or remove the file",
                    file.display(),
                    kept.consumer
                ));
            }
            Some(kept) => kept,
            None => {
                let kept = Kept { consumer, cursor: engine.head().entries().checked_sub(1), dead: Vec::new() };
                kept.write(&file).map_err(fault)?;
                kept
            }
        };
        let (kept, trouble) = (Arc::new(tokio::sync::Mutex::new(kept)), StdMutex::default());
        Ok(Self { name, engine, open, file, kept, trouble })
    }

    pub(crate) fn name(&self) -> &WebhookName {
        &self.name
    }

    pub(crate) fn consumer(&self) -> Siret {
        self.open.config.consumer
    }

    pub(crate) fn url(&self) -> &str {
        &self.open.config.url
    }

    pub(crate) async fn standing(&self) -> Standing {
        let Kept { cursor, dead, .. } = self.kept.lock().await.clone();
        Standing { cursor, trouble: self.trouble().clone(), dead }
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends each change as it comes.
    pub(super) async fn run(self: Arc<Self>) {
        let mut steps = self.engine.ledger_steps(self.consumer());
        loop {
            // ORDER: what changes after this look wakes the wait below.
            steps.mark_unchanged();
            let cursor = self.kept.lock().await.cursor;
            match self.next(cursor).await {
                Ok(page) => match page.changes.into_iter().next() {
                    Some(change) => self.deliver(change).await,
                    None if page.cursor == cursor => self.engine.ledger_changed(&mut steps).await,
                    // Its record was purged.
                    None => self.keep(|kept| kept.cursor = page.cursor).await,
                },
                Err(error) => self.cannot_read(&error).await,
            }
        }
    }

    /// The change after `cursor`, as it stands now.
    async fn next(&self, cursor: Option<u64>) -> Result<unefois_engine::consents::ChangePage, EngineError> {
        self.engine.changes(&ChangeReader::Operator(self.consumer()), cursor, 1, Instant::now() + LOOK).await
    }

    /// The change of index `cursor` as it stands now; `None` where its record was purged.
    async fn change(&self, cursor: u64) -> Result<Option<Change>, EngineError> {
        let page = self.next(cursor.checked_sub(1)).await?;
        Ok(page.changes.into_iter().next().filter(|change| change.index == cursor))
    }

    /// Sends one change until it is accepted or given up. It is read anew before it is sent again: what it says is true when it
    /// is sent, and an administration that left the registry meanwhile is told nothing more.
    async fn deliver(&self, mut change: Change) {
        let (begun, cursor, mut attempts) = (Instant::now(), change.index, 1_u32);
        while let Err(failed) = self.send(&change).await {
            let wait = pause(attempts, failed.after, luck());
            let is_over = begun.elapsed() + wait > Duration::from_secs(self.open.config.give_up_after_s);
            if is_over && self.kept.lock().await.dead.len() < MAX_DEAD_LETTERS {
                return self.give_up(cursor, attempts, failed.error).await;
            }
            tokio::time::sleep(wait).await;
            attempts = attempts.saturating_add(1);
            change = loop {
                match self.change(cursor).await {
                    Ok(Some(change)) => break change,
                    Ok(None) => return self.keep(|kept| kept.cursor = Some(cursor)).await,
                    Err(error) => self.cannot_read(&error).await,
                }
            };
        }
        self.keep(|kept| kept.cursor = Some(cursor)).await;
    }

    async fn cannot_read(&self, error: &EngineError) {
        tracing::warn!(webhook = %self.name, %error, code = error.code(), "changes cannot be read for a webhook");
        tokio::time::sleep(LOOK).await;
    }

    async fn give_up(&self, cursor: u64, attempts: u32, error: String) {
        tracing::error!(
            webhook = %self.name, cursor, attempts, %error,
            "a change could not be delivered; once the receiver is well, `unefois webhook replay` sends it again"
        );
        metrics::counter!("unefois_webhook_given_up_total", "webhook" => self.name.to_string()).increment(1);
        let given_up_at = self.engine.now();
        self.keep(|kept| {
            kept.dead.push(DeadLetter { cursor, given_up_at, attempts, error });
            kept.cursor = Some(cursor);
        })
        .await;
    }

    /// Sends dead letters again, oldest first: those of `cursors`, or all where it is empty. Ends at the first that fails,
    /// and at `deadline`.
    pub(crate) async fn replay(&self, cursors: &[u64], deadline: Instant) -> Result<Replayed, EngineError> {
        let dead = self.kept.lock().await.dead.clone();
        let mut replayed = Replayed::default();
        for letter in dead.into_iter().filter(|letter| cursors.is_empty() || cursors.contains(&letter.cursor)) {
            if Instant::now() >= deadline {
                return Err(EngineError::DeadlineExceeded);
            }
            match self.change(letter.cursor).await? {
                None => replayed.purged += 1,
                Some(change) => {
                    if let Err(failed) = self.send(&change).await {
                        self.keep(|kept| kept.failed_again(letter.cursor, &failed.error)).await;
                        replayed.error = Some(failed.error);
                        break;
                    }
                    replayed.delivered += 1;
                }
            }
            self.keep(|kept| kept.dead.retain(|kept| kept.cursor != letter.cursor)).await;
        }
        Ok(replayed)
    }

    /// Sends one change once.
    async fn send(&self, change: &Change) -> Result<(), Failed> {
        let body = change_json(&wire_change(&self.engine, change.clone())).to_string();
        let seconds = self.engine.now().as_millis() / 1_000;
        let signature = self.open.secret.sign(change.index, seconds, body.as_bytes());
        let request = self.open.client.post(&self.open.config.url);
        let request = request
            .timeout(Duration::from_millis(self.open.config.timeout_ms))
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", change.index)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(body);
        let sent = match request.send().await {
            // The body of the answer says nothing to us and is not read.
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Failed {
                error: format!("it answered {}", answer.status()),
                after: answer
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|after| after.to_str().ok()?.parse().ok())
                    .map(Duration::from_secs),
            }),
            Err(error) => Err(Failed { error: without_address(error), after: None }),
        };
        self.note(&sent);
        sent
    }

    /// Tells the operator when it begins to fail, and when it is well again.
    fn note(&self, sent: &Result<(), Failed>) {
        let outcome = if sent.is_ok() { "delivered" } else { "failed" };
        let name = self.name.to_string();
        metrics::counter!("unefois_webhook_deliveries_total", "webhook" => name, "outcome" => outcome).increment(1);
        let mut trouble = self.trouble();
        match sent {
            Ok(()) => {
                if std::mem::take(&mut *trouble).failures > 0 {
                    tracing::info!(webhook = %self.name, "a webhook is well again");
                }
            }
            Err(failed) => {
                if trouble.failures == 0 {
                    tracing::warn!(webhook = %self.name, error = %failed.error, "a webhook fails; it is tried again");
                }
                *trouble = Trouble { failures: trouble.failures.saturating_add(1), error: failed.error.clone() };
            }
        }
    }

    /// Changes what is kept. Where it cannot be written, what is in memory counts; after a restart a change may come twice.
    async fn keep(&self, change: impl FnOnce(&mut Kept)) {
        let mut kept = Arc::clone(&self.kept).lock_owned().await;
        change(&mut kept);
        metrics::gauge!("unefois_webhook_dead_letters", "webhook" => self.name.to_string()).set(kept.dead.len() as f64);
        let file = self.file.clone();
        let written = tokio::task::spawn_blocking(move || kept.write(&file)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(webhook = %self.name, %error, file = %self.file.display(), "where a webhook stands could not be kept");
        }
    }
}

/// What went wrong on the way, down to its cause. The address is known, and may hold a token.
fn without_address(error: reqwest::Error) -> String {
    use std::error::Error as _;
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A number from 0 to 1. Nobody's safety rests on it.
fn luck() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0) % 1_024) as f64 / 1_023.0
}
