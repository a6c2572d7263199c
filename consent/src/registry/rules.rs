//! The rules that a registry keeps, each with its source where it has one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{DatasetClass, Habilitation, Procedure, Registry, RegistryChange, RegistryFile, Role};
use crate::{GroundKind, KeyFingerprint, Retention};

/// Longest retention of exchanged data at a consumer, in months.
const MAX_RETENTION_MONTHS: u16 = 120;
/// CRPA L114-8 II: what was collected to inform a person of a right is kept a year at most.
const MAX_PROACTIVE_RETENTION_MONTHS: u16 = 12;

/// A rule that a registry breaks, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {rule}")]
pub struct RegistryFault {
    /// `habilitation ville-cantine`.
    pub place: String,
    /// What must hold.
    pub rule: String,
}

fn fault<T>(place: impl Into<String>, rule: impl Into<String>) -> Result<T, RegistryFault> {
    Err(RegistryFault { place: place.into(), rule: rule.into() })
}

/// Refuses a registry that is not consistent in itself.
pub(super) fn check(file: &RegistryFile) -> Result<(), RegistryFault> {
    check_participants(file)?;
    check_procedures(file)?;
    check_datasets(file)?;
    check_habilitations(file)
}

/// Refuses a step that would rewrite what persons were told or lock everyone out.
pub(super) fn check_step(before: &Registry, after: &Registry) -> Result<(), RegistryFault> {
    for (id, procedure) in &before.procedures {
        check_published(procedure, after.procedures.get(id).map(Arc::as_ref))?;
    }
    if !after.keys.values().any(|(_, roles)| roles.contains(&Role::Registry)) {
        return fault("participants", "at least one key must have the role registry, or nobody could change it again");
    }
    Ok(())
}

/// Refuses one change that would rewrite what persons were told.
pub(super) fn check_change(before: &Registry, change: &RegistryChange) -> Result<(), RegistryFault> {
    let (id, next) = match change {
        RegistryChange::PutProcedure(procedure) => (&procedure.id, Some(procedure)),
        RegistryChange::RemoveProcedure(id) => (id, None),
        RegistryChange::PutParticipant(_)
        | RegistryChange::RemoveParticipant(_)
        | RegistryChange::PutDataset(_)
        | RegistryChange::RemoveDataset(_)
        | RegistryChange::PutHabilitation(_)
        | RegistryChange::RemoveHabilitation(_) => return Ok(()),
    };
    before.procedures.get(id).map_or(Ok(()), |procedure| check_published(procedure, next))
}

fn check_published(procedure: &Procedure, next: Option<&Procedure>) -> Result<(), RegistryFault> {
    let place = || format!("procedure {}", procedure.id);
    // A procedure that could go and come back could come back with other texts.
    let Some(next) = next else {
        return fault(place(), "its notices were published, so it stays; take it out of the habilitations instead");
    };
    for notice in &procedure.notices {
        if next.notice(notice.version) != Some(notice) {
            let rule = format!("notice {} was published and may not change; add a new version", notice.version);
            return fault(place(), rule);
        }
    }
    Ok(())
}

fn unique<K: Ord + std::fmt::Display>(kind: &str, keys: impl Iterator<Item = K>) -> Result<(), RegistryFault> {
    let mut seen = BTreeSet::new();
    for key in keys {
        let name = key.to_string();
        if !seen.insert(key) {
            return fault(format!("{kind} {name}"), "is listed twice");
        }
    }
    Ok(())
}

const MAX_CONTACT_BYTES: usize = 512;

/// No key has such a fingerprint, but for one chance in 2^192.
fn is_placeholder(fingerprint: KeyFingerprint) -> bool {
    fingerprint.0.iter().take(24).all(|byte| *byte == 0)
}

fn check_participants(file: &RegistryFile) -> Result<(), RegistryFault> {
    unique("participant", file.participants.iter().map(|p| p.siret))?;
    unique("key", file.participants.iter().flat_map(|p| p.keys.iter().map(|k| k.fingerprint)))?;
    let keys = file.participants.iter().flat_map(|participant| &participant.keys);
    if let Some(key) = keys.into_iter().find(|key| is_placeholder(key.fingerprint)) {
        let rule =
            "is a placeholder; put in the fingerprint of a certificate's key: unefois fingerprint CERTIFICATE.pem";
        return fault(format!("key {}", key.fingerprint), rule);
    }
    for participant in &file.participants {
        if participant.name.trim().is_empty() {
            return fault(format!("participant {}", participant.siret), "needs a name");
        }
        if participant.address.len() > MAX_CONTACT_BYTES || participant.phone.len() > MAX_CONTACT_BYTES {
            let place = format!("participant {}", participant.siret);
            return fault(place, format!("address and phone have at most {MAX_CONTACT_BYTES} bytes each"));
        }
    }
    Ok(())
}

/// A consent must not outlive the record of its use, or a one-time consent could be used again after a rebuild.
const CONSENT_MAX_DAYS: u32 = 1_095;

fn check_procedures(file: &RegistryFile) -> Result<(), RegistryFault> {
    unique("procedure", file.procedures.iter().map(|p| p.id.clone()))?;
    for procedure in &file.procedures {
        let place = format!("procedure {}", procedure.id);
        if procedure.notices.is_empty() {
            return fault(place, "needs a notice: persons must be informed (CRPA L114-8)");
        }
        unique(&format!("{place}, notice"), procedure.notices.iter().map(|n| n.version))?;
        if procedure.notices.iter().any(|n| n.version == 0 || n.fr.trim().is_empty() || n.en.trim().is_empty()) {
            return fault(place, "each notice has a version from 1 and a text in French and in English");
        }
        if procedure.consent_max_days == 0 || procedure.notice_max_age_days == 0 {
            return fault(place, "consent_max_days and notice_max_age_days are at least 1");
        }
        if procedure.consent_max_days > CONSENT_MAX_DAYS {
            return fault(
                place,
                "consent_max_days is at most 1095: that a consent was used is remembered for 36 months",
            );
        }
        if !(1..=Retention::TRACES.months()).contains(&procedure.trace_months) {
            return fault(place, "trace_months is from 1 to 36");
        }
        let is_short = procedure.trace_months < Retention::TRACES.months();
        if is_short && procedure.trace_article.trim().is_empty() {
            let rule = "traces are kept 36 months (CRPA R114-9-7); trace_article names the article that says fewer";
            return fault(place, rule);
        }
        if procedure.trace_article.len() > MAX_CONTACT_BYTES {
            return fault(place, format!("trace_article has at most {MAX_CONTACT_BYTES} bytes"));
        }
    }
    Ok(())
}

fn check_datasets(file: &RegistryFile) -> Result<(), RegistryFault> {
    unique("dataset", file.datasets.iter().map(|d| d.id.clone()))?;
    let participants: BTreeSet<_> = file.participants.iter().map(|p| p.siret).collect();
    for dataset in &file.datasets {
        let place = format!("dataset {}", dataset.id);
        match dataset.class {
            DatasetClass::Ordinary => {}
            DatasetClass::Medical | DatasetClass::Defence => {
                return fault(place, "medical and defence secrets may not be exchanged (CRPA R114-9-7)");
            }
        }
        if !participants.contains(&dataset.source) {
            return fault(place, format!("its source {} is not a participant", dataset.source));
        }
        if dataset.attributes.is_empty() {
            return fault(place, "needs an attribute");
        }
        unique(&format!("{place}, attribute"), dataset.attributes.iter().map(|a| a.name.clone()))?;
        for attribute in &dataset.attributes {
            let named = dataset.id.attribute(&attribute.name);
            if attribute.name.contains('.') || named.is_err() {
                return fault(place, "names of attributes are of a-z, 0-9, '_' and '-'");
            }
        }
    }
    Ok(())
}

fn check_habilitations(file: &RegistryFile) -> Result<(), RegistryFault> {
    unique("habilitation", file.habilitations.iter().map(|h| h.id.clone()))?;
    for habilitation in &file.habilitations {
        check_habilitation(file, habilitation)?;
    }
    Ok(())
}

fn check_habilitation(file: &RegistryFile, habilitation: &Habilitation) -> Result<(), RegistryFault> {
    let place = || format!("habilitation {}", habilitation.id);
    if !file.participants.iter().any(|p| p.siret == habilitation.participant) {
        return fault(place(), format!("its holder {} is not a participant", habilitation.participant));
    }
    if habilitation.legal_basis.trim().is_empty() || habilitation.dpo_contact.trim().is_empty() {
        return fault(place(), "needs a legal basis and a DPO contact");
    }
    if let Some(id) = habilitation.procedures.iter().find(|id| !file.procedures.iter().any(|p| p.id == **id)) {
        return fault(place(), format!("procedure {id} does not exist"));
    }
    let exists =
        |dataset: &str, name: &str| file.datasets.iter().any(|d| d.id.as_str() == dataset && d.has_attribute(name));
    if let Some(attribute) = habilitation.attributes.iter().find(|a| !exists(a.dataset(), a.name())) {
        return fault(place(), format!("attribute {attribute} does not exist"));
    }
    if habilitation.procedures.is_empty()
        || habilitation.attributes.is_empty()
        || habilitation.grounds.is_empty()
        || habilitation.recipients.is_empty()
    {
        return fault(place(), "needs a procedure, an attribute, a ground and a recipient");
    }
    if habilitation.valid_from >= habilitation.valid_until {
        return fault(place(), "valid_from is before valid_until");
    }
    let longest = if habilitation.grounds.contains(&GroundKind::Proactive) {
        MAX_PROACTIVE_RETENTION_MONTHS
    } else {
        MAX_RETENTION_MONTHS
    };
    if !(1..=longest).contains(&habilitation.retention_months) {
        return fault(
            place(),
            format!("retention_months is from 1 to {longest} on these grounds (CRPA L114-8 II: 12 where PROACTIVE)"),
        );
    }
    Ok(())
}
