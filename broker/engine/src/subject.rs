//! From an identity to the random reference that records use.

use ring::hmac;
use serde::Serialize;
use unefois_consent::event::{CarriedFact, NewSubject};
use unefois_consent::{Digest, PivotIdentity, SubjectRef};

use crate::error::EngineError;
use crate::purge::carry;
use crate::sequencer::Turn;
use crate::store::SecretKey;

/// Turns identities into tags, under a key that only this broker has: a bare digest of an identity would be the identity.
#[derive(Debug)]
pub(crate) struct Tagger(hmac::Key);

impl Tagger {
    pub(crate) fn new(key: &SecretKey) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// HMAC of a normalised identity ([`PivotIdentity::normalised`]).
    pub(crate) fn normalised(&self, normalised: &str) -> Digest {
        let mut tag = self.begin(b"unefois/subject/v1");
        tag.update(normalised.as_bytes());
        finish(tag)
    }

    /// HMAC of the normalised identity.
    pub(crate) fn identity(&self, identity: &PivotIdentity) -> Digest {
        self.normalised(&identity.normalised())
    }

    /// HMAC of the content of a request: its parts as JSON, identity included.
    pub(crate) fn content(&self, parts: &impl Serialize) -> Result<Digest, EngineError> {
        let mut tag = self.begin(b"unefois/content/v1");
        serde_json::to_writer(Updating(&mut tag), parts)
            .map_err(|_| EngineError::Internal("a question could not be written as JSON"))?;
        Ok(finish(tag))
    }

    fn begin(&self, label: &[u8]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(label);
        context.update(&[0]);
        context
    }
}

fn finish(context: hmac::Context) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.sign().as_ref());
    Digest(digest)
}

/// Hashes what is written to it.
struct Updating<'a>(&'a mut hmac::Context);

impl std::io::Write for Updating<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The reference of an identity's tag: the known one, or a new one that the step's first entry must introduce.
pub(crate) fn find_or_draw(turn: &mut Turn<'_>, tag: Digest) -> Result<(SubjectRef, Option<NewSubject>), EngineError> {
    if let Some(known) = turn.subject(&tag)? {
        let period = known.stamp.period;
        if period.is_over(turn.now().month()) {
            // Its record is about to be purged, and what comes now must find the person later.
            let fact = CarriedFact::Subject(NewSubject { tag, subject: known.subject });
            carry(turn, known.stamp.from, fact)?;
        }
        return Ok((known.subject, None));
    }
    let subject = turn.draw_subject()?;
    Ok((subject, Some(NewSubject { tag, subject })))
}
