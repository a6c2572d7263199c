//! The steps that record a consent: asked for, given, renewed.

use unefois_consent::collect::{answers, check_answer_by, check_consent, renewed_from, renewed_window, renews};
use unefois_consent::consent::CONSENT_SCHEMA;
use unefois_consent::decide::Recorded;
use unefois_consent::event::{ConsentRecorded, Event};
use unefois_consent::registry::Role;
use unefois_consent::{
    Channel, Consent, ConsentId, ConsentStatus, Digest, Grantor, Language, Malformed, MandateId, ProcedureId,
    SubjectRef,
};

use super::standing::{Word, is_kept};
use super::{AnswerCall, Indication, LedgerConsent, RecordCall, RenewCall, RequestCall, Standing, Terms};
use crate::error::EngineError;
use crate::sequencer::Turn;
use crate::state::HeldBack;
use crate::subject::{Person, find_or_draw};

/// How long a request waits for its answer where it does not say.
const ANSWER_TIME: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 60 * 60);

pub(super) fn record(turn: &mut Turn<'_>, call: &RecordCall, tag: Digest) -> Result<LedgerConsent, EngineError> {
    turn.judge_caller(&call.caller, Role::Exchange)?;
    let person = find_or_draw(turn, tag)?;
    let (before, consent) = match call.answers {
        None => (None, draft(turn, &call.terms, (person.subject, &call.indication, &call.agent), None)?),
        Some(id) => {
            let request = own(turn, &Standing::Backend(call.caller.clone()), id)?;
            let draft = draft(turn, &call.terms, (person.subject, &call.indication, &call.agent), Some(&request))?;
            (Some(request.index), answer(turn, &request, draft)?)
        }
    };
    let word = Word { by: call.caller.actor(), person: None, mandate: call.indication.mandate };
    append(turn, Event::ConsentGranted, (person, Follows::entry(before)), word, consent)
}

pub(super) fn request(turn: &mut Turn<'_>, call: &RequestCall, tag: Digest) -> Result<LedgerConsent, EngineError> {
    turn.judge_caller(&call.caller, Role::Exchange)?;
    let person = find_or_draw(turn, tag)?;
    let indication = Indication { channel: Channel::Online, evidence: None, assurance: None, mandate: None };
    let draft = draft(turn, &call.terms, (person.subject, &indication, &call.agent), None)?;
    let answer_by = call.answer_by.unwrap_or(turn.now().plus(ANSWER_TIME).min(draft.expires_at));
    check_answer_by(&draft, answer_by, turn.now())?;
    let status = ConsentStatus::Requested { answer_by, code: turn.draw_code()? };
    let word = Word { by: call.caller.actor(), person: None, mandate: None };
    append(turn, Event::ConsentRequested, (person, Follows::entry(None)), word, Consent { status, ..draft })
}

/// A proven person gives what they were asked for, or less of it.
pub(super) fn answer_in_person(turn: &mut Turn<'_>, call: &AnswerCall) -> Result<LedgerConsent, EngineError> {
    let standing = Standing::Person(call.person.clone());
    let request = own(turn, &standing, call.consent)?;
    let mandate = call.person.mandate;
    let given = Consent {
        attributes: call.attributes.clone().unwrap_or_else(|| request.attributes.clone()),
        expires_at: call.expires_at.unwrap_or(request.expires_at),
        language: call.language,
        notice_digest: notice_digest(turn, &request.procedure, request.notice_version, call.language)?,
        channel: Channel::Online,
        evidence: None,
        grantor: grantor(mandate),
        assurance: Some(call.person.proof.assurance.clone()),
        ..request.fact.clone()
    };
    let consent = answer(turn, &request, given)?;
    let person = Person::known(consent.subject);
    append(turn, Event::ConsentGranted, (person, Follows::entry(Some(request.index))), call.person.word(), consent)
}

/// `given` as the answer to `request`, now.
fn answer(turn: &Turn<'_>, request: &Consent, given: Consent) -> Result<Consent, EngineError> {
    let now = turn.now();
    let given = Consent {
        sources: turn.state().registry().sources(&given.attributes),
        not_before: request.not_before.max(now),
        granted_at: now,
        status: ConsentStatus::Granted,
        ..given
    };
    if !matches!(request.status, ConsentStatus::Requested { answer_by, .. } if now < answer_by) {
        let rule = "the person is not asked any more: they answered, or did not within the time; ask for a new consent";
        return Err(EngineError::WrongState(rule));
    }
    if !given.attributes.is_subset(&request.attributes) {
        return Err(Malformed::new("attributes", "what the request asks for, or less of it").into());
    }
    if given.expires_at > request.expires_at {
        return Err(Malformed::new("expires_at", "not after the end that the request asks for").into());
    }
    if !answers(request, &given, now) {
        return Err(Malformed::new("consent_id", "a request of the same terms").into());
    }
    Ok(given)
}

pub(super) fn renew(turn: &mut Turn<'_>, call: &RenewCall) -> Result<LedgerConsent, EngineError> {
    let current = own(turn, &call.standing, call.consent)?;
    let now = turn.now();
    let (word, indication) = match &call.standing {
        Standing::Backend(caller) => {
            (Word { by: caller.actor(), person: None, mandate: call.indication.mandate }, call.indication.clone())
        }
        Standing::Person(person) => {
            let assurance = Some(person.proof.assurance.clone());
            let indication =
                Indication { channel: Channel::Online, evidence: None, assurance, mandate: person.mandate };
            (person.word(), indication)
        }
        Standing::Authority(_) => return Err(EngineError::NotAllowed("only a person renews a consent")),
    };
    let next = Consent {
        schema: CONSENT_SCHEMA,
        version: current.version.saturating_add(1),
        previous: Some(current.version_digest()),
        grantor: grantor(indication.mandate),
        assurance: indication.assurance,
        channel: indication.channel,
        evidence: indication.evidence,
        notice_version: call.notice_version,
        notice_digest: notice_digest(turn, &current.procedure, call.notice_version, call.language)?,
        language: call.language,
        sources: turn.state().registry().sources(&current.attributes),
        not_before: renewed_from(&current, now),
        expires_at: call.expires_at,
        agent: call.agent.clone(),
        granted_at: now,
        status: ConsentStatus::Granted,
        uses: 0,
        window: None,
        ..current.fact.clone()
    };
    let next = Consent { window: renewed_window(&current, &next), ..next };
    if !renews(&current, &next, word.decided_by()) {
        let rule = if matches!(current.status, ConsentStatus::Paused { .. }) {
            "the person, proven, paused it, or their representative did; they renew or resume it in the portal"
        } else {
            "only a consent that was given and has not ended is given again; ask for a new one"
        };
        return Err(EngineError::WrongState(rule));
    }
    let window_entry = current.last_use.filter(|_| next.window.is_some());
    let follows = Follows { before: Some(current.index), window_entry };
    append(turn, Event::ConsentRenewed, (Person::known(next.subject), follows), word, next)
}

/// A consent of whoever stands there, in whatever state. What is not theirs reads as if there were none.
fn own(turn: &mut Turn<'_>, standing: &Standing, id: ConsentId) -> Result<Recorded<Consent>, EngineError> {
    let not_found = EngineError::NotFound("this consent");
    let consent = turn.state().consent_recorded(id)?.filter(|c| is_kept(turn, c)).ok_or(not_found)?;
    // Who may take it back may give it.
    standing.judge(turn, &consent, unefois_consent::event::Decision::Withdraw)?;
    Ok(consent)
}

fn grantor(mandate: Option<MandateId>) -> Grantor {
    mandate.map_or(Grantor::Person, |mandate| Grantor::Representative { mandate })
}

fn notice_digest(
    turn: &Turn<'_>,
    procedure: &ProcedureId,
    version: u32,
    language: Language,
) -> Result<Digest, EngineError> {
    let registry = turn.state().registry();
    if registry.procedure(procedure).is_none() {
        return Err(Malformed::new("procedure", "the registry has no such procedure").into());
    }
    let digest = registry.notice_digest(procedure, version, language);
    Ok(digest.ok_or(Malformed::new("notice_version", "the procedure has no notice of this version"))?)
}

/// A consent of these terms as of now, given; or what was asked for, given by other means.
fn draft(
    turn: &mut Turn<'_>,
    terms: &Terms,
    (subject, indication, agent): (SubjectRef, &Indication, &str),
    request: Option<&Consent>,
) -> Result<Consent, EngineError> {
    let now = turn.now();
    Ok(Consent {
        id: request.map_or_else(|| turn.draw_consent(), |request| Ok(request.id))?,
        schema: CONSENT_SCHEMA,
        version: 1,
        previous: None,
        subject,
        grantor: grantor(indication.mandate),
        assurance: indication.assurance.clone(),
        consumer: terms.consumer,
        recipients: terms.recipients.clone(),
        sources: turn.state().registry().sources(&terms.attributes),
        procedure: terms.procedure.clone(),
        attributes: terms.attributes.clone(),
        filters: terms.filters.clone(),
        period: terms.period,
        notice_version: terms.notice_version,
        notice_digest: notice_digest(turn, &terms.procedure, terms.notice_version, terms.language)?,
        language: terms.language,
        channel: indication.channel,
        evidence: indication.evidence,
        // Nothing that happened before the person said yes is covered by it.
        not_before: terms.not_before.unwrap_or(now).max(now),
        expires_at: terms.expires_at,
        usage: terms.usage,
        data_life: terms.data_life,
        agent: agent.to_owned(),
        granted_at: now,
        status: ConsentStatus::Granted,
        uses: 0,
        window: None,
    })
}

/// What a consent follows.
#[derive(Debug, Clone, Copy)]
struct Follows {
    /// Index of the entry that it answers or renews.
    before: Option<u64>,
    /// Index of the entry that used the window last which goes on in it.
    window_entry: Option<u64>,
}

impl Follows {
    fn entry(before: Option<u64>) -> Self {
        Self { before, window_entry: None }
    }
}

const HELD_BACK: &str = "the person, proven, paused, withdrew or refused a consent for this procedure, or for one of these attributes \
                         and recipients; they alone give one again, in their portal: ask them with RequestConsent";

/// Checks the consent and writes it; nothing is written before everything is right.
fn append(
    turn: &mut Turn<'_>,
    event: fn(Box<ConsentRecorded>) -> Event,
    (person, follows): (Person, Follows),
    word: Word,
    consent: Consent,
) -> Result<LedgerConsent, EngineError> {
    let mandate = consent.grantor.mandate().map(|id| turn.state().mandate_recorded(id)).transpose()?.flatten();
    check_consent(turn.state().registry(), &consent, mandate.as_deref(), turn.now())?;
    // To ask is no way round a person's decision either, but they answer that by themselves.
    let held_back = if consent.status == ConsentStatus::Granted {
        turn.state().held_back(&consent, word.decided_by())?
    } else {
        HeldBack::default()
    };
    if held_back.is_held {
        return Err(EngineError::NotAllowed(HELD_BACK));
    }
    let kept_before = turn.state().consent_kept_after(consent.id)?;
    let kept_after = kept_before.map_or(consent.expires_at, |before| before.max(consent.expires_at));
    let new_subject = person.introduce(turn)?;
    let recorded = ConsentRecorded {
        new_subject,
        by: word.by,
        person: word.person,
        before: follows.before,
        mandate_entry: mandate.as_ref().map(|mandate| mandate.index),
        window_entry: follows.window_entry,
        given_again: held_back.given_again,
        kept_after,
        consent: consent.clone(),
    };
    let written = turn.append(&event(Box::new(recorded)))?;
    Ok(LedgerConsent { consent, log_index: written.index, mandate: mandate.map(|mandate| mandate.fact) })
}
