//! Callers as the gate lets them in, for calls that go past the gate to the engine.

use std::sync::Arc;
use std::time::Instant;

use unefois_consent::KeyFingerprint;
use unefois_consent::registry::Role;
use unefois_engine::{Credential, Engine, ExchangeCall, VerifiedParticipant};
use unefois_proto::v1;

/// A certificate that stays valid.
#[derive(Debug)]
struct Valid;

impl Credential for Valid {
    fn is_valid(&self) -> bool {
        true
    }
}

/// Whom `key` belongs to, in `role`.
pub fn caller(engine: &Engine, key: KeyFingerprint, role: Role) -> VerifiedParticipant {
    VerifiedParticipant::verify(&engine.registry().registry, key, Arc::new(Valid), role).unwrap()
}

/// The department of `unefois init`, in the role exchange.
pub fn department(engine: &Engine) -> VerifiedParticipant {
    let view = engine.registry();
    let department = view.registry.participant(unefois::init::DEPARTMENT.parse().unwrap()).unwrap();
    let key = department.keys.iter().find(|key| key.roles.contains(&Role::Exchange)).unwrap();
    caller(engine, key.fingerprint, Role::Exchange)
}

/// The call that `question` of `caller`, who asks for itself, makes of the engine.
pub fn exchange_call(caller: VerifiedParticipant, question: v1::ExchangeRequest, deadline: Instant) -> ExchangeCall {
    let asked = unefois_proto::exchange::question(question).unwrap();
    ExchangeCall {
        recipient: caller.participant(),
        caller,
        agent: asked.agent,
        procedure: asked.procedure,
        habilitation: asked.habilitation,
        attributes: asked.attributes,
        filters: asked.filters,
        ground: asked.ground,
        mandate: asked.mandate,
        identity: asked.identity,
        access_token: None,
        via: Vec::new(),
        request_id: asked.request_id,
        deadline,
    }
}
