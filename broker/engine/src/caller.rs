//! Who calls, proven by a certificate.

use std::fmt;
use std::sync::Arc;

use unefois_consent::event::Actor;
use unefois_consent::registry::{Registry, Role};
use unefois_consent::{KeyFingerprint, Siret};

use crate::error::EngineError;

/// The certificate with which a caller connected. Judged again at each call and before each answer, because connections
/// outlive certificates.
pub trait Credential: Send + Sync + fmt::Debug {
    /// Whether the certificate is, now, within its dates, from a configured CA and not revoked.
    fn is_valid(&self) -> bool;
}

/// What a caller without a valid certificate is told.
pub fn certificate_ended() -> EngineError {
    EngineError::NotAllowed("your certificate has ended or was revoked; renew it")
}

/// A participant whose key is enrolled and whose certificate is valid.
#[derive(Debug, Clone)]
pub struct VerifiedParticipant {
    participant: Siret,
    key: KeyFingerprint,
    credential: Arc<dyn Credential>,
}

impl VerifiedParticipant {
    /// Whom `key` belongs to, if it may act in `role` and its certificate is valid.
    pub fn verify(
        registry: &Registry,
        key: KeyFingerprint,
        credential: Arc<dyn Credential>,
        role: Role,
    ) -> Result<Self, EngineError> {
        if !credential.is_valid() {
            return Err(certificate_ended());
        }
        let (participant, roles) = registry.holder(&key).ok_or(EngineError::NotAllowed(
            "your certificate's key is not enrolled; ask the operator to add its fingerprint to the registry",
        ))?;
        if !roles.contains(&role) {
            return Err(EngineError::NotAllowed(match role {
                Role::Exchange => "your key lacks the role exchange; ask the operator to enrol it with that role",
                Role::Audit => "your key lacks the role audit; ask the operator to enrol it with that role",
                Role::Portal => "your key lacks the role portal; ask the operator to enrol it with that role",
                Role::Registry => "your key lacks the role registry; ask the operator to enrol it with that role",
            }));
        }
        Ok(Self { participant, key, credential })
    }

    /// The participant.
    pub fn participant(&self) -> Siret {
        self.participant
    }

    /// Its key.
    pub fn key(&self) -> KeyFingerprint {
        self.key
    }

    /// Whether the certificate is still valid.
    pub fn is_still_valid(&self) -> bool {
        self.credential.is_valid()
    }

    /// Whether the key is still enrolled for `role` in `registry` and the certificate still valid. The gate judged both
    /// against the registry of its moment; a step judges them again at its place in the log.
    pub fn judge_again(&self, registry: &Registry, role: Role) -> Result<(), EngineError> {
        if !self.is_still_valid() {
            return Err(certificate_ended());
        }
        if !registry.is_enrolled(self.participant, &self.key, role) {
            return Err(EngineError::NotAllowed(
                "your key is not enrolled any more; ask the operator to look at the registry",
            ));
        }
        Ok(())
    }

    /// As records name it.
    pub fn actor(&self) -> Actor {
        Actor { participant: self.participant, key: self.key }
    }
}
