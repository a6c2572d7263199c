//! A source that does what a test says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use unefois_connectors::{BoxFuture, Connector, Fetch, SourceAnswer, SourceFault};
use unefois_consent::{DatasetId, Outcome};

type Answer = Result<serde_json::Value, SourceFault>;
type Script = Box<dyn Fn(&Fetch<'_>) -> Answer + Send + Sync>;

/// A scripted source. It serves every dataset.
pub struct ScriptedSource {
    script: Mutex<Script>,
    next: Mutex<VecDeque<Answer>>,
    asked: AtomicUsize,
    held: watch::Sender<bool>,
    extra: Mutex<Vec<(String, serde_json::Value)>>,
}

impl std::fmt::Debug for ScriptedSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScriptedSource")
    }
}

impl ScriptedSource {
    /// A source that answers 742 to everything.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Box::new(|_| Ok(742.into()))),
            next: Mutex::default(),
            asked: AtomicUsize::new(0),
            held: watch::Sender::new(false),
            extra: Mutex::default(),
        })
    }

    /// Answers every attribute by `script`.
    pub fn script(&self, script: impl Fn(&Fetch<'_>) -> Answer + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Answers the next question with `answer`, before the script is asked again.
    pub fn next(&self, answer: Answer) {
        self.next.lock().unwrap().push_back(answer);
    }

    /// Sends an attribute that nobody asked for with each answer.
    pub fn add_unasked(&self, attribute: &str, value: serde_json::Value) {
        self.extra.lock().unwrap().push((attribute.to_owned(), value));
    }

    /// How many questions came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Holds questions until [`ScriptedSource::release`].
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Lets held questions go on.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Waits until `count` questions have come.
    pub async fn was_asked(&self, count: usize) {
        crate::ask::until(|| self.asked() >= count).await;
    }
}

impl Connector for ScriptedSource {
    fn serves(&self, _: &DatasetId) -> bool {
        true
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<SourceAnswer, SourceFault>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let mut held = self.held.subscribe();
            held.wait_for(|held| !held).await.unwrap();
            let next = self.next.lock().unwrap().pop_front();
            let value = next.unwrap_or_else(|| (self.script.lock().unwrap())(&fetch))?;
            let asked = fetch.dataset.attributes.iter().map(|a| (a.clone(), Outcome::Found(value.clone())));
            let extra = self.extra.lock().unwrap().clone();
            let extra = extra.into_iter().map(|(name, value)| (name.parse().unwrap(), Outcome::Found(value)));
            Ok(SourceAnswer::of(asked.chain(extra).collect(), Some("scripted".to_owned())))
        })
    }
}
