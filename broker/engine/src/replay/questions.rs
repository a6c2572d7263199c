//! Derives the entries of exchanges: what was permitted, refused, answered, dropped, and what failed.

use std::collections::{BTreeMap, BTreeSet};

use unefois_consent::decide::{Earlier, Facts, Permit, RETRY_WINDOW, decide, explained_by, rests_on, still_permitted};
use unefois_consent::event::{Answered, Dropped, Failed, Refused, Requested, Rest, RestKind};
use unefois_consent::exchange::{MAX_ATTRIBUTES, is_agent};
use unefois_consent::{
    Event, ExchangeId, KeyFingerprint, OutcomeCode, Question, Reason, Refusal, SubjectRef, Timestamp,
};

use super::derive::{At, Derivation, Derived, Fault, must, no};
use super::past::{Gone, LONGEST};
use crate::clock_guard::CLOCK_BOUND;
use crate::state::Wanted;

/// The questions of the last quarter of an hour, by the index of their entries: whoever tries one again asks the same.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<u64, (Timestamp, Question)>);

impl Questions {
    fn add(&mut self, index: u64, time: Timestamp, question: &Question) {
        while let Some(first) = self.0.first_entry() {
            if time.since(first.get().0) <= RETRY_WINDOW {
                break;
            }
            first.remove();
        }
        // A key may change between two tries.
        let question = Question { key: KeyFingerprint([0; 32]), ..question.clone() };
        self.0.insert(index, (time, question));
    }

    /// Whether `question` is the one of entry `earlier`, as far as that is remembered.
    fn is_same(&self, earlier: u64, question: &Question) -> bool {
        let question = Question { key: KeyFingerprint([0; 32]), ..question.clone() };
        self.0.get(&earlier).is_none_or(|(_, asked)| *asked == question)
    }
}

/// An earlier attempt whose record was purged.
enum PurgedAttempt<'a> {
    /// There is none.
    None,
    /// As the one that was permitted after it implies it.
    Was(Earlier),
    /// It may have stood on one of the consents that these entries recorded, and on no other.
    StoodOn(&'a [u64]),
}

/// What is decided again.
struct Again {
    decided: Result<Permit, Refusal>,
    /// What it rests on, of what can be derived.
    rests_on: Vec<u64>,
    earlier: Option<Earlier>,
}

impl Derivation {
    fn decide_again(
        &self,
        at: At<'_>,
        question: &Question,
        exchange: ExchangeId,
        purged: PurgedAttempt<'_>,
    ) -> Result<Again, Fault> {
        self.known(question.subject)?;
        let distinct: BTreeSet<_> = question.attributes.iter().collect();
        let is_asked = distinct.len() == question.attributes.len() && (1..=MAX_ATTRIBUTES).contains(&distinct.len());
        must(is_asked, "asks no attribute, one of them twice, or too many")?;
        must(is_agent(&question.agent), "names no agent as one can be named")?;
        let mut person =
            self.state.person(question.subject, question.consumer, Wanted::by(question), question.mandate)?;
        if let PurgedAttempt::StoodOn(named) = purged {
            person.consents.retain(|consent| named.contains(&consent.index));
        }
        let purged_attempt = if let PurgedAttempt::Was(earlier) = purged { Some(earlier) } else { None };
        let usage = self.state.usage(question.consumer)?;
        let earlier = self.state.earlier(question.consumer, &question.request_id)?.or(purged_attempt);
        let facts = Facts {
            rules: self.state.rules(),
            registry: self.state.registry(),
            person: &person,
            used_today: &usage,
            earlier: earlier.as_ref(),
        };
        let decided = decide(&facts, question, exchange, at.time);
        let rests_on = rests_on(&facts, question, &decided, at.time);
        Ok(Again { decided, rests_on, earlier })
    }

    /// The entries of `named` whose records were purged. The others must be those that are derived.
    fn purged_of(&self, at: At<'_>, named: &[u64]) -> Result<Vec<(u64, Gone)>, Fault> {
        must(named.is_sorted_by(|a, b| a < b), "names what it rests on in another order, or twice")?;
        let mut purged = Vec::new();
        for index in named {
            let gone = at.destroyed.find(at.index, Rest { index: *index, kind: RestKind::Looked })?;
            purged.extend(gone.map(|gone| (*index, gone)));
        }
        Ok(purged)
    }

    pub(super) fn requested(&mut self, at: At<'_>, requested: &Requested) -> Result<Derived, Fault> {
        let question = &requested.question;
        let purged = self.purged_of(at, &requested.rests_on)?;
        let attempt = purged_attempt(at, requested, &purged)?;
        let rests = attempt.is_some();
        let attempt = attempt.map_or(PurgedAttempt::None, PurgedAttempt::Was);
        let again = self.decide_again(at, question, requested.exchange, attempt)?;
        let permit = match again.decided {
            Ok(permit) => permit,
            Err(refusal) => return no(format!("was permitted and must be refused: {}", refusal.first().code())),
        };
        let same = permit.exchange() == requested.exchange
            && permit.attempt() == requested.attempt
            && *permit.habilitation() == requested.habilitation
            && permit.consent() == requested.consent
            && requested.first_at == again.earlier.as_ref().map(|earlier| earlier.at);
        must(same, "was permitted on other terms")?;
        must(again.rests_on == requested.rests_on, "rests on other entries than it says")?;
        let used = self.state.used_by(&permit, at.time)?;
        must(used == requested.used, "says that its consent was used another number of times")?;
        match &again.earlier {
            None => must(self.state.add_exchange(requested.exchange)?, "begins an exchange under the name of another")?,
            Some(earlier) => {
                let same = self.questions.is_same(earlier.index, question);
                must(same, "tries an exchange again with another question")?;
            }
        }
        self.questions.add(at.index, at.time, question);
        self.permits.insert(at.index, permit);
        Ok(if rests { Derived::Rests } else { Derived::Decision })
    }

    pub(super) fn refused(&mut self, at: At<'_>, refused: &Refused) -> Result<Derived, Fault> {
        let purged = self.purged_of(at, &refused.rests_on)?;
        let was_tried = purged.iter().any(|(_, gone)| gone.kind == Event::REQUESTED);
        let attempt = if was_tried { PurgedAttempt::StoodOn(&refused.rests_on) } else { PurgedAttempt::None };
        let again = self.decide_again(at, &refused.question, refused.exchange, attempt)?;
        must(self.state.add_exchange(refused.exchange)?, "refuses an exchange under the name of another")?;
        let derived = again.decided.err().map(|refusal| refusal.reasons().to_vec()).unwrap_or_default();
        // What rests on a purged entry cannot be derived; all else must be.
        let rest = |reasons: &[Reason]| {
            let told = |reason: &&Reason| !purged.iter().any(|(_, gone)| explained_by(gone.kind, **reason));
            reasons.iter().filter(told).copied().collect::<Vec<_>>()
        };
        if purged.is_empty() {
            must(!derived.is_empty(), "was refused and must be permitted")?;
            if derived != refused.reasons {
                let first = derived.first().map_or("", |reason| reason.code());
                return no(format!("was refused for other reasons than {first}"));
            }
            must(again.rests_on == refused.rests_on, "rests on other entries than it says")?;
            return Ok(Derived::Decision);
        }
        must(!refused.reasons.is_empty(), "was refused for no reason")?;
        if rest(&refused.reasons) != rest(&derived) {
            let codes = |reasons: &[Reason]| reasons.iter().map(|reason| reason.code()).collect::<Vec<_>>().join(", ");
            let (said, derived) = (codes(&refused.reasons), codes(&derived));
            return no(format!("was refused for other reasons than follow: {said}, and not {derived}"));
        }
        let explained = refused.reasons.iter().any(|r| purged.iter().any(|(_, gone)| explained_by(gone.kind, *r)));
        // That the earlier attempt was a use of the same consent explains only why the retry is refused for nothing more.
        must(explained || was_tried, "rests on purged entries that explain nothing of it")?;
        Ok(Derived::Rests)
    }

    /// The permit of the exchange that ends; `None` where the record of its beginning was purged.
    fn take_permit(
        &mut self,
        at: At<'_>,
        requested: u64,
        (exchange, subject): (ExchangeId, SubjectRef),
        is_failure: bool,
    ) -> Result<Option<Permit>, Fault> {
        let in_time =
            |begun: Timestamp| must(is_failure || at.time.since(begun) <= LONGEST, "ends an exchange too late");
        if let Some(gone) = at.destroyed.at(at.index, RestKind::Request, Some(requested))? {
            in_time(gone.time)?;
            return Ok(None);
        }
        match self.permits.remove(&requested) {
            Some(permit) if permit.exchange() == exchange && permit.subject() == subject => {
                in_time(permit.decided_at())?;
                Ok(Some(permit))
            }
            Some(_) => no("ends an exchange that is another"),
            None => no("ends an exchange that was not under way"),
        }
    }

    /// Exchanges that have been under way for longer than any deadline when the log ends at `time`.
    pub(super) fn never_ended(&self, time: Timestamp) -> impl Iterator<Item = u64> + '_ {
        self.permits
            .iter()
            .filter(move |(_, permit)| time.since(permit.decided_at()) > LONGEST)
            .map(|(index, _)| *index)
    }

    fn judge_again(&self, permit: &Permit, time: Timestamp) -> Result<Vec<Reason>, Fault> {
        let person =
            self.state.person(permit.subject(), permit.consumer(), Wanted::by_permit(permit), permit.mandate())?;
        let judged = still_permitted(self.state.registry(), &person, permit, time);
        Ok(judged.err().map(|refusal| refusal.reasons().to_vec()).unwrap_or_default())
    }

    pub(super) fn answered(&mut self, at: At<'_>, answered: &Answered) -> Result<Derived, Fault> {
        let named = (answered.exchange, answered.subject);
        let Some(permit) = self.take_permit(at, answered.requested, named, false)? else {
            return Ok(Derived::Rests);
        };
        let reasons = self.judge_again(&permit, at.time)?;
        if let Some(reason) = reasons.first() {
            return no(format!("was answered and must be dropped: {}", reason.code()));
        }
        let asked: BTreeSet<_> = permit.datasets().iter().flat_map(|d| &d.attributes).collect();
        must(answered.attributes.keys().collect::<BTreeSet<_>>() == asked, "answers other attributes than were asked")?;
        let same = answered.request_id == *permit.request_id()
            && answered.consumer == permit.consumer()
            && answered.recipient == permit.recipient()
            && answered.procedure == *permit.procedure()
            && answered.ground == permit.ground();
        must(same, "answers another question")?;
        check_provenance(&permit, answered, at.time)?;
        Ok(Derived::Decision)
    }

    pub(super) fn dropped(&mut self, at: At<'_>, dropped: &Dropped) -> Result<Derived, Fault> {
        let Some(permit) = self.take_permit(at, dropped.requested, (dropped.exchange, dropped.subject), false)? else {
            return Ok(Derived::Rests);
        };
        let reasons = self.judge_again(&permit, at.time)?;
        // A certificate lies outside the log: that it ended cannot be derived.
        let mut derived = dropped.reasons.clone();
        derived.retain(|reason| *reason != Reason::CertificateEnded);
        must(derived == reasons && !dropped.reasons.is_empty(), "was dropped for other reasons")?;
        Ok(Derived::Decision)
    }

    pub(super) fn failed(&mut self, at: At<'_>, failed: &Failed) -> Result<Derived, Fault> {
        // One that failed gave nothing to anybody; whoever stopped may start again after years.
        self.take_permit(at, failed.requested, (failed.exchange, failed.subject), true)?;
        Ok(Derived::Nothing)
    }
}

/// The attempt before this one, where its record was purged: as this one implies it.
fn purged_attempt(at: At<'_>, requested: &Requested, purged: &[(u64, Gone)]) -> Result<Option<Earlier>, Fault> {
    let attempts: Vec<_> = purged.iter().filter(|(_, gone)| gone.kind == Event::REQUESTED).collect();
    must(attempts.len() == purged.len(), "was permitted on what was purged")?;
    let [(index, gone)] = attempts.as_slice() else {
        must(attempts.is_empty(), "tries two exchanges again")?;
        return Ok(None);
    };
    let (true, Some(first_at)) = (requested.attempt > 1, requested.first_at) else {
        return no("rests on an earlier attempt, and is the first");
    };
    let fits = gone.retention == at.retention && first_at <= gone.time && at.time.since(gone.time) <= RETRY_WINDOW;
    must(fits, "tries an exchange again that was another")?;
    Ok(Some(Earlier {
        exchange: requested.exchange,
        content: requested.question.content,
        at: first_at,
        attempts: requested.attempt.saturating_sub(1),
        consent: requested.consent,
        index: *index,
        retention: gone.retention,
    }))
}

/// Where an answer comes from: the source of each dataset that answered, as the registry named it, and no other.
fn check_provenance(permit: &Permit, answered: &Answered, time: Timestamp) -> Result<(), Fault> {
    let mut expected = BTreeSet::new();
    for asked in permit.datasets() {
        let codes = asked.attributes.iter().filter_map(|attribute| answered.attributes.get(attribute));
        let mut has_answered = false;
        for code in codes {
            must(*code != OutcomeCode::Withheld, "answers what it withholds")?;
            has_answered |= code.is_of_source();
        }
        if has_answered {
            expected.insert(&asked.dataset.id);
            let Some(from) = answered.provenance.get(&asked.dataset.id) else {
                return no("was answered by nobody");
            };
            let same = from.source == asked.dataset.source && from.version == asked.dataset.version;
            must(same, "was answered by another source than that of the dataset")?;
            // The clock may have been put back by so much meanwhile, and the time of the log stood still then.
            must(from.obtained_at <= time.plus(CLOCK_BOUND), "was answered in the future")?;
        }
    }
    must(
        answered.provenance.keys().collect::<BTreeSet<_>>() == expected,
        "says where data comes from that was not given",
    )
}
