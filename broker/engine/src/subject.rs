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

/// A person in a step: their reference, and what must be written before anything else names them.
pub(crate) struct Person {
    pub(crate) subject: SubjectRef,
    before: Before,
}

enum Before {
    /// A record that stays says who they are.
    Nothing,
    /// The step's first entry about them must introduce them.
    Introduce(NewSubject),
    /// The record that says who they are is about to be purged, and what comes now must find the person later.
    Carry { from: u64, new: NewSubject },
}

impl Person {
    /// Somebody whom a record in force names.
    pub(crate) fn known(subject: SubjectRef) -> Self {
        Self { subject, before: Before::Nothing }
    }

    /// Writes what must come first. Called when nothing can be refused any more: a step that fails after it wrote halts the
    /// engine. What it gives goes into the entry that names the person.
    pub(crate) fn introduce(self, turn: &mut Turn<'_>) -> Result<Option<NewSubject>, EngineError> {
        match self.before {
            Before::Nothing => Ok(None),
            Before::Introduce(new) => Ok(Some(new)),
            Before::Carry { from, new } => {
                carry(turn, from, CarriedFact::Subject(new))?;
                Ok(None)
            }
        }
    }
}

/// The person of an identity's tag, known or new. Writes nothing.
pub(crate) fn find_or_draw(turn: &mut Turn<'_>, tag: Digest) -> Result<Person, EngineError> {
    let Some(known) = turn.subject(&tag)? else {
        let subject = turn.draw_subject()?;
        return Ok(Person { subject, before: Before::Introduce(NewSubject { tag, subject }) });
    };
    let subject = known.subject;
    let is_over = known.stamp.period.is_over(turn.now().month());
    let carried = Before::Carry { from: known.stamp.from, new: NewSubject { tag, subject } };
    Ok(Person { subject, before: if is_over { carried } else { Before::Nothing } })
}
