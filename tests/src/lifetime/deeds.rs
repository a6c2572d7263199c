//! What is done in a life: each [`Act`] as a call of the engine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unefois::init::{DEPARTMENT, OPERATOR, TOWN_HALL};
use unefois_consent::event::Decision;
use unefois_consent::registry::Role;
use unefois_consent::{
    Channel, ConsentId, Digest, EidasLevel, IdentityAssurance, Language, MandateId, MandateKind, PersonProof, Rules,
    Timestamp,
};
use unefois_engine::consents::{
    AnswerCall, DecideCall, Indication, MandateCall, ProvenPerson, RecordCall, RenewCall, RequestCall, Standing, Terms,
};
use unefois_engine::registry::Apply;
use unefois_engine::{EngineError, ExchangeCall, VerifiedParticipant};
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;

use super::{Act, Deed, HOUR, Lifetime, SHORT, identity_of, name, soon};
use crate::ask::{ALLOWANCE, allowance, canteen, grant_on};
use crate::caller::{caller, exchange_call};
use crate::writers::record_call;

impl Lifetime {
    fn by(&self, siret: &str, role: Role) -> VerifiedParticipant {
        let view = self.engine().registry();
        let found = view.registry.participant(siret.parse().unwrap()).unwrap();
        let key = found.keys.iter().find(|key| key.roles.contains(&role)).unwrap();
        caller(self.engine(), key.fingerprint, role)
    }

    fn department(&self) -> VerifiedParticipant {
        self.by(DEPARTMENT, Role::Exchange)
    }

    fn town_hall(&self) -> VerifiedParticipant {
        self.by(TOWN_HALL, Role::Exchange)
    }

    fn proven(&self, who: u8, mandate: Option<MandateId>) -> ProvenPerson {
        let assurance = IdentityAssurance {
            level: EidasLevel::Substantial,
            acr: "eidas2".to_owned(),
            authenticated_at: self.now(),
        };
        let proof = PersonProof { issuer: "https://fc.example".to_owned(), assertion: Digest([5; 32]), assurance };
        self.engine().proven(self.by(OPERATOR, Role::Portal), &identity_of(who), proof, mandate)
    }

    /// Until when something lasts: from a day to the longest consent, after now.
    fn until(&self, span: u8) -> Timestamp {
        let days = [1, 3, 20, 31, 90, 200, 365, 400, 700, 1_000, 1_094][usize::from(span) % 11];
        self.now().plus(days * 24 * HOUR)
    }

    fn consent(&self, which: u8) -> ConsentId {
        nth(&self.consents, which).map_or(ConsentId([9; 16]), |(id, _)| id)
    }

    fn mandate(&self, which: u8) -> MandateId {
        nth(&self.mandates, which).map_or(MandateId([9; 16]), |(id, _, _)| id)
    }

    /// Who does it: most often the person whose consent or mandate it is, and now and then another.
    fn whose(&self, Deed { act, who, which, span, .. }: Deed) -> u8 {
        if (which ^ span).is_multiple_of(5) {
            return who;
        }
        let (consent, mandate) = (nth(&self.consents, which), nth(&self.mandates, which));
        let whose =
            if [Act::AskByConsent, Act::AskAndWithdrawMeanwhile, Act::Answer, Act::RenewInPerson, Act::DecideInPerson]
                .contains(&act)
            {
                consent.map(|(_, person)| person)
            } else if [Act::AskUnderMandate, Act::RecordUnderMandate, Act::EndMandateInPerson].contains(&act) {
                mandate.map(|(_, principal, _)| principal)
            } else if [Act::DecideUnderMandate, Act::ReadUnderMandate].contains(&act) {
                mandate.map(|(_, _, representative)| representative)
            } else {
                None
            };
        whose.unwrap_or(who)
    }

    pub(super) async fn deed(&mut self, deed: Deed) -> Result<(), EngineError> {
        let Deed { act, which, .. } = deed;
        let who = self.whose(deed);
        let engine = Arc::clone(self.engine());
        let (name, in_person) = (name(who), Standing::Person(self.proven(who, None)));
        let consumer = |is_department: bool| if is_department { DEPARTMENT } else { TOWN_HALL }.parse().unwrap();
        match act {
            Act::AskByLaw => self.ask(canteen(name), None).await,
            Act::AskShort => self.ask(v1::ExchangeRequest { procedure: SHORT.to_owned(), ..canteen(name) }, None).await,
            Act::AskProactively => self.ask(crate::ask::proactive(canteen(name)), None).await,
            Act::AskByConsent => {
                let id = self.consent(which).to_string();
                self.ask(allowance(name, Some(&id)), None).await
            }
            Act::AskByAnyConsent => self.ask(allowance(name, None), None).await,
            Act::AskUnderMandate => {
                let mandate_id = self.mandate(which).to_string();
                self.ask(v1::ExchangeRequest { mandate_id, ..allowance(name, None) }, None).await
            }
            Act::AskAgain => match self.asked.clone() {
                Some(question) => self.ask(question, None).await,
                None => Ok(()),
            },
            Act::AskTooMuch => {
                let attributes = vec!["dss.quotient_familial.adresse".to_owned()];
                self.ask(v1::ExchangeRequest { attributes, ..canteen(name) }, None).await
            }
            Act::AskAndWithdrawMeanwhile => self.ask_and_withdraw(name, self.consent(which)).await,
            Act::AskTooLate => {
                let question = canteen(name);
                self.source.hold();
                let late = self.ask(question, Some(Instant::now() + Duration::from_millis(20))).await;
                self.source.release();
                // Whoever asks again waits for the end of what was asked too late, which goes on without its caller.
                let again = self.asked.clone().unwrap();
                self.ask(again, None).await.and(late)
            }
            Act::AskAndRestart => {
                drop(engine);
                self.ask_and_restart(name).await;
                Ok(())
            }
            Act::Record | Act::RecordUnderMandate => {
                let mut wanted = grant_on(name, |_| {});
                if act == Act::RecordUnderMandate {
                    wanted.mandate_id = self.mandate(which).to_string();
                }
                let mut call = record_call(self.department(), &wanted);
                self.on_terms(&mut call.terms, deed);
                let recorded = engine.record_consent(call, soon()).await?;
                self.consents.push((recorded.consent.id, who));
                Ok(())
            }
            Act::Request => {
                let RecordCall { caller, agent, identity, mut terms, .. } =
                    record_call(self.department(), &grant_on(name, |_| {}));
                self.on_terms(&mut terms, deed);
                let call = RequestCall { caller, agent, identity, terms, answer_by: None };
                let requested = engine.request_consent(call, soon()).await?;
                let consent = requested.consent.id;
                self.consents.push((consent, who));
                if which.is_multiple_of(5) {
                    self.clock.advance(HOUR);
                    let standing = Standing::Person(self.proven(who, None));
                    let call = DecideCall { standing, consent, decision: Decision::Refuse, evidence: None };
                    engine.decide_consent(call, soon()).await?;
                }
                Ok(())
            }
            Act::Answer => {
                let (person, consent) = (self.proven(who, None), self.consent(which));
                let call = AnswerCall { person, consent, language: Language::Fr, attributes: None, expires_at: None };
                engine.answer_request(call, soon()).await.map(drop)
            }
            Act::Renew => self.renew(Standing::Backend(self.department()), deed).await,
            Act::RenewInPerson => self.renew(in_person, deed).await,
            Act::Decide => self.decide(Standing::Backend(self.department()), deed).await,
            Act::DecideInPerson => self.decide(in_person, deed).await,
            Act::DecideUnderMandate => {
                self.decide(Standing::Person(self.proven(who, Some(self.mandate(which)))), deed).await
            }
            Act::PauseAndResume => {
                let standing = Standing::Backend(self.department());
                self.decide(standing.clone(), Deed { span: 0, ..deed }).await?;
                self.clock.advance(HOUR);
                self.decide(standing, Deed { span: 1, ..deed }).await
            }
            Act::Revoke => {
                let standing = Standing::Authority(self.by(OPERATOR, Role::Registry));
                let consent = self.consent(which);
                let call = DecideCall { standing, consent, decision: Decision::Revoke, evidence: None };
                engine.decide_consent(call, soon()).await.map(drop)
            }
            Act::Object => engine.record_objection(self.town_hall(), &identity_of(who), None, soon()).await.map(drop),
            Act::Lift => engine.lift_objection(self.town_hall(), &identity_of(who), None, soon()).await.map(drop),
            Act::ObjectInPerson | Act::LiftInPerson => {
                let lift = act == Act::LiftInPerson;
                let against = (consumer(which.is_multiple_of(3)), None);
                engine.my_objection(self.proven(who, None), against, lift, soon()).await.map(drop)
            }
            Act::Mandate => {
                let representative = who.wrapping_add(1 + which % 3);
                let call = MandateCall {
                    caller: self.department(),
                    agent: "agent-7".to_owned(),
                    principal: identity_of(who),
                    representative: identity_of(representative),
                    kind: MandateKind::Mandatary,
                    procedures: BTreeSet::new(),
                    proof: Digest([7; 32]),
                    not_before: None,
                    expires_at: Some(self.until(deed.span)),
                };
                let mandate = engine.record_mandate(call, soon()).await?;
                self.mandates.push((mandate.id, who, representative));
                Ok(())
            }
            Act::EndMandate => engine.end_mandate(self.department(), self.mandate(which), soon()).await.map(drop),
            Act::EndMandateInPerson => {
                engine.end_my_mandate(self.proven(who, None), self.mandate(which), soon()).await.map(drop)
            }
            Act::ReadOwn => {
                engine.my_exchanges(self.proven(who, None), None, 20, soon()).await?;
                engine.my_events(self.proven(who, None), None, soon()).await.map(drop)
            }
            Act::ReadUnderMandate => {
                let person = self.proven(who, Some(self.mandate(which)));
                engine.my_exchanges(person, None, 20, soon()).await.map(drop)
            }
            Act::ReadReceipt => {
                let (found, _) = engine.my_exchanges(self.proven(who, None), None, 5, soon()).await?;
                let Some(index) = found.first().and_then(|exchange| exchange.end_index) else { return Ok(()) };
                let receipt = engine.my_receipt(self.proven(who, None), index, soon()).await?;
                receipt.verify(self.signer.verifier_key()).map(drop).or_else(|_| self.of_a_closed_shard(&receipt))
            }
            Act::ReadAsDpo => {
                let from = u64::from(which) * 3;
                engine.entries(&self.by(OPERATOR, Role::Audit), from, 5, soon()).await.map(drop)
            }
            Act::ChangeRegistry => self.change_registry(which).await,
            Act::ChangeRules => engine.change_rules(Rules::from_number(1 + u32::from(which % 2))).await.map(drop),
        }
    }

    /// A receipt of a closed shard does not verify under the key of this one.
    fn of_a_closed_shard(&self, receipt: &unefois_audit::Receipt) -> Result<(), EngineError> {
        let origin = receipt.proof.checkpoint.lines().next().unwrap();
        assert_ne!(origin, self.signer.verifier_key().name(), "a receipt does not verify");
        Ok(())
    }

    /// Terms of any kind and length, from now or from a later day.
    fn on_terms(&self, terms: &mut Terms, Deed { which, span, .. }: Deed) {
        use unefois_consent::{ConsentUse, Frequency, TimeUnit};
        let periodic = |times, per| ConsentUse::Periodic(Frequency { times, per });
        terms.usage = [
            ConsentUse::Repeated,
            ConsentUse::OneTime,
            periodic(1, TimeUnit::Month),
            periodic(2, TimeUnit::Day),
            periodic(1, TimeUnit::Year),
        ][usize::from(which) % 5];
        terms.expires_at = self.until(span);
        if which.is_multiple_of(4) {
            let later = self.now().plus(u32::from(span) * 24 * HOUR);
            terms.not_before = Some(later);
            terms.expires_at = later.plus(60 * 24 * HOUR);
        }
    }

    fn call(&self, mut question: v1::ExchangeRequest, deadline: Option<Instant>) -> ExchangeCall {
        use v1::exchange_request::Ground;
        let is_new = self.asked.as_ref().is_none_or(|asked| asked.request_id != question.request_id);
        let shown = match question.ground.as_mut().unwrap() {
            Ground::LawRequest(ground) => ground.notice.as_mut(),
            Ground::Proactive(ground) => ground.notice.as_mut(),
            Ground::Consent(_) | Ground::ExplicitRequest(_) => None,
        };
        if let Some(shown) = shown.filter(|_| is_new) {
            shown.shown_at = Some(wire_instant(self.now()));
        }
        let caller = if question.procedure == ALLOWANCE { self.department() } else { self.town_hall() };
        exchange_call(caller, question, deadline.unwrap_or_else(soon))
    }

    async fn ask(&mut self, question: v1::ExchangeRequest, deadline: Option<Instant>) -> Result<(), EngineError> {
        use v1::exchange_request::Ground;
        let call = self.call(question.clone(), deadline);
        let mut question = question;
        // As it was asked, to ask it again.
        if let unefois_consent::Ground::LawRequest { notice } | unefois_consent::Ground::Proactive { notice } =
            &call.ground
        {
            match question.ground.as_mut().unwrap() {
                Ground::LawRequest(ground) => {
                    ground.notice.as_mut().unwrap().shown_at = Some(wire_instant(notice.shown_at))
                }
                Ground::Proactive(ground) => {
                    ground.notice.as_mut().unwrap().shown_at = Some(wire_instant(notice.shown_at))
                }
                Ground::Consent(_) | Ground::ExplicitRequest(_) => {}
            }
        }
        self.asked = Some(question);
        self.engine().exchange(call).await.map(drop)
    }

    /// The answer comes when the consent is withdrawn.
    async fn ask_and_withdraw(&mut self, name: &str, consent: ConsentId) -> Result<(), EngineError> {
        let call = self.call(allowance(name, Some(&consent.to_string())), None);
        let before = self.source.asked();
        self.source.hold();
        let engine = Arc::clone(self.engine());
        let asking = tokio::spawn(async move { engine.exchange(call).await.map(drop) });
        while self.source.asked() == before && !asking.is_finished() {
            tokio::task::yield_now().await;
        }
        let standing = Standing::Backend(self.department());
        let call = DecideCall { standing, consent, decision: Decision::Withdraw, evidence: None };
        let withdrawn = self.engine().decide_consent(call, soon()).await;
        self.source.release();
        asking.await.unwrap()?;
        withdrawn.map(drop)
    }

    /// The broker stops while a source is asked, and the next start ends the exchange.
    async fn ask_and_restart(&mut self, name: &str) {
        let call = self.call(canteen(name), None);
        let before = self.source.asked();
        self.source.hold();
        let engine = Arc::clone(self.engine());
        let asking = tokio::spawn(async move { engine.exchange(call).await.map(drop) });
        while self.source.asked() == before && !asking.is_finished() {
            tokio::task::yield_now().await;
        }
        self.close().await;
        self.source.release();
        let _stopped = asking.await.unwrap();
        self.open().await;
    }

    async fn renew(&mut self, standing: Standing, deed: Deed) -> Result<(), EngineError> {
        let indication = Indication { channel: Channel::Counter, evidence: None, assurance: None, mandate: None };
        let call = RenewCall {
            standing,
            agent: "agent-7".to_owned(),
            consent: self.consent(deed.which),
            notice_version: 1,
            language: Language::Fr,
            expires_at: self.until(deed.span),
            indication,
        };
        self.engine().renew_consent(call, soon()).await.map(drop)
    }

    async fn decide(&mut self, standing: Standing, deed: Deed) -> Result<(), EngineError> {
        let decisions = [Decision::Pause, Decision::Resume, Decision::Withdraw, Decision::Refuse, Decision::Invalidate];
        let decision = decisions[usize::from(deed.span) % decisions.len()];
        let call = DecideCall { standing, consent: self.consent(deed.which), decision, evidence: None };
        self.engine().decide_consent(call, soon()).await.map(drop)
    }

    /// Lets traces of the second procedure be kept for another time, or takes a right away for a while.
    async fn change_registry(&mut self, which: u8) -> Result<(), EngineError> {
        let view = self.engine().registry();
        let mut file = view.registry.to_file();
        if which.is_multiple_of(2) {
            let short = file.procedures.iter_mut().find(|p| p.id.as_str() == SHORT).unwrap();
            short.trace_months = [12, 36, 24, 3][usize::from(which / 2) % 4];
            short.trace_article = if short.trace_months < 36 { "2022/1463 art. 17".to_owned() } else { String::new() };
        } else {
            let held = file.habilitations.iter_mut().find(|h| h.id.as_str() == "saint-exemple-europe").unwrap();
            held.retention_months = 1 + u16::from(which % 12);
        }
        let operator = self.by(OPERATOR, Role::Registry);
        self.engine().apply_registry(&operator, file, Apply::IfVersion(view.version), soon()).await.map(drop)
    }
}

fn nth<T: Copy>(all: &[T], which: u8) -> Option<T> {
    // The newest first: what is long over is asked for less often.
    all.iter().rev().nth(usize::from(which) % all.len().max(1)).copied()
}
