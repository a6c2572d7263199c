//! From an identity to the random reference that records use.

use ring::hmac;
use unefois_consent::event::NewSubject;
use unefois_consent::{Digest, PivotIdentity, SubjectRef};

use crate::error::EngineError;
use crate::sequencer::Turn;
use crate::store::SecretKey;

/// Turns identities into tags, under a key that only this broker has: a bare digest of an identity would be the identity.
#[derive(Debug)]
pub(crate) struct Tagger(hmac::Key);

impl Tagger {
    pub(crate) fn new(key: &SecretKey) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// HMAC of the normalised identity.
    pub(crate) fn identity(&self, identity: &PivotIdentity) -> Digest {
        self.tag(b"unefois/subject/v1", identity.normalised().as_bytes())
    }

    /// HMAC of the content of a request, identity included.
    pub(crate) fn content(&self, content: &[u8]) -> Digest {
        self.tag(b"unefois/content/v1", content)
    }

    fn tag(&self, label: &[u8], bytes: &[u8]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(label);
        context.update(&[0]);
        context.update(bytes);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        Digest(digest)
    }
}

/// The reference of an identity's tag: the known one, or a new one that the step's first entry must introduce.
pub(crate) fn find_or_draw(turn: &Turn<'_>, tag: Digest) -> Result<(SubjectRef, Option<NewSubject>), EngineError> {
    if let Some(subject) = turn.state().subject(&tag)? {
        return Ok((subject, None));
    }
    let subject = turn.draw_subject()?;
    Ok((subject, Some(NewSubject { tag, subject })))
}
