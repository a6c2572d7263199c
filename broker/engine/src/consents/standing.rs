//! On whose word something is decided, and whether that word counts for this consent.

use unefois_consent::decide::Recorded;
use unefois_consent::event::{Actor, Decision, Reader, TraceScope};
use unefois_consent::registry::Role;
use unefois_consent::{
    Consent, DecidedBy, Digest, Mandate, MandateId, PersonProof, ProcedureId, Retention, Siret, SubjectRef,
};

use crate::caller::VerifiedParticipant;
use crate::error::EngineError;
use crate::sequencer::Turn;
use crate::state::KnownSubject;

/// A person whom an identity provider has proven, and the portal through which they act.
#[derive(Debug, Clone)]
pub struct ProvenPerson {
    /// The portal.
    pub portal: VerifiedParticipant,
    /// HMAC of the person's identity; [`crate::Engine::proven`] computes it.
    pub(crate) tag: Digest,
    /// What the identity provider says.
    pub proof: PersonProof,
    /// The mandate under which the person acts for another.
    pub mandate: Option<MandateId>,
}

/// On whose word something is decided.
#[derive(Debug, Clone)]
pub enum Standing {
    /// An administration records what a person told it.
    Backend(VerifiedParticipant),
    /// A person decides, proven by an identity provider.
    Person(ProvenPerson),
    /// The operator carries out an authority's order.
    Authority(VerifiedParticipant),
}

/// Who did it, as records say.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) by: Actor,
    pub(super) person: Option<PersonProof>,
    pub(super) mandate: Option<MandateId>,
}

impl Word {
    pub(super) fn decided_by(&self) -> DecidedBy {
        DecidedBy::of(self.person.is_some(), self.mandate)
    }
}

/// The person for whom a proven person acts, and the mandate where that is another.
pub(super) struct Principal {
    pub(super) subject: SubjectRef,
    pub(super) mandate: Option<Recorded<Mandate>>,
    /// The person who acts.
    reader: KnownSubject,
}

impl Principal {
    /// Whether they may decide towards `consumer` for `procedure`: on their own account always.
    pub(super) fn may_decide(&self, consumer: Siret, procedure: &ProcedureId) -> bool {
        self.mandate.as_ref().is_none_or(|m| m.consumer == consumer && m.covers(procedure))
    }

    /// What a reading of the person's traces is: by the person, or by the representative.
    pub(super) fn reading(&self) -> TraceScope {
        let own = self.reader.stamp.from;
        let (introduced, reader) = match &self.mandate {
            None => (own, None),
            Some(mandate) => {
                let (subject, introduced) = (self.reader.subject, own);
                // The mandate names the principal, so its entry says who that is as well as the first one.
                let reader = Reader { subject, introduced, mandate: mandate.id, mandate_entry: mandate.index };
                (mandate.index, Some(reader))
            }
        };
        TraceScope::Person { subject: self.subject, introduced, reader }
    }
}

impl ProvenPerson {
    /// The person whom this one may decide for. Somebody whom no record names reads as somebody without consents.
    pub(super) fn principal(&self, turn: &mut Turn<'_>) -> Result<Option<Principal>, EngineError> {
        turn.judge_caller(&self.portal, Role::Portal)?;
        let Some(known) = turn.subject(&self.tag)? else { return Ok(None) };
        let Some(id) = self.mandate else {
            return Ok(Some(Principal { subject: known.subject, mandate: None, reader: known }));
        };
        let now = turn.now();
        let own = |m: &Recorded<Mandate>| m.representative == known.subject && m.is_in_force(now);
        let mandate = turn.state().mandate_recorded(id)?.filter(own).ok_or(EngineError::NotFound("this mandate"))?;
        Ok(Some(Principal { subject: mandate.principal, mandate: Some(mandate), reader: known }))
    }

    pub(super) fn word(&self) -> Word {
        Word { by: self.portal.actor(), person: Some(self.proof.clone()), mandate: self.mandate }
    }
}

impl Standing {
    /// Whether this standing may take `decision` on `consent`. What is not the caller's reads as if it did not exist.
    pub(super) fn judge(
        &self,
        turn: &mut Turn<'_>,
        consent: &Consent,
        decision: Decision,
    ) -> Result<Word, EngineError> {
        let not_found = EngineError::NotFound("this consent");
        match self {
            Self::Backend(caller) => {
                turn.judge_caller(caller, Role::Exchange)?;
                if consent.consumer != caller.participant() {
                    return Err(not_found);
                }
                if decision == Decision::Revoke {
                    return Err(EngineError::NotAllowed("only the operator revokes, on an authority's order"));
                }
                Ok(Word { by: caller.actor(), person: None, mandate: None })
            }
            Self::Person(person) => {
                let principal = person.principal(turn)?.ok_or(not_found.clone())?;
                if consent.subject != principal.subject || !principal.may_decide(consent.consumer, &consent.procedure) {
                    return Err(not_found);
                }
                match decision {
                    Decision::Refuse | Decision::Pause | Decision::Resume | Decision::Withdraw => Ok(person.word()),
                    Decision::Revoke | Decision::Invalidate => {
                        Err(EngineError::NotAllowed("this is not for persons to decide; withdraw the consent instead"))
                    }
                }
            }
            Self::Authority(caller) => {
                turn.judge_caller(caller, Role::Registry)?;
                if decision == Decision::Revoke {
                    Ok(Word { by: caller.actor(), person: None, mandate: None })
                } else {
                    Err(EngineError::NotAllowed("the operator revokes, and leaves the rest to the administration"))
                }
            }
        }
    }
}

/// One that ended so long ago that its record is about to be purged is as good as gone.
pub(super) fn is_kept(turn: &Turn<'_>, consent: &Consent) -> bool {
    !Retention::TRACES.is_over(consent.expires_at.month(), turn.now().month())
}
