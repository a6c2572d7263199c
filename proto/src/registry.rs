//! The registry, both ways.

use unefois_consent::registry::{
    Attribute, Dataset, DatasetClass, EnrolledKey, Habilitation, HabilitationStatus, Notice, Participant, Procedure,
    RegistryFile, Role,
};
use unefois_consent::{GroundKind, Malformed, Retention};

use crate::common::{ground_kind, wire_ground_kind};
use crate::fields::{enum_conversion, instant, parse, parse_each, wire_instant};
use crate::v1;

enum_conversion!(role, wire_role, v1::Role => Role, Unspecified, { Exchange = Exchange, Audit = Audit, Registry = Registry, Portal = Portal });
enum_conversion!(dataset_class, wire_dataset_class, v1::DatasetClass => DatasetClass, Unspecified, {
    Ordinary = Ordinary, Medical = Medical, Defence = Defence,
});
enum_conversion!(habilitation_status, wire_habilitation_status, v1::HabilitationStatus => HabilitationStatus, Unspecified, {
    Active = Active, Obsolete = Obsolete, Revoked = Revoked,
});

/// Converts each message of a repeated field and says which one is at fault.
fn each<W, D>(field: &str, messages: &[W], read: impl Fn(&W) -> Result<D, Malformed>) -> Result<Vec<D>, Malformed> {
    let read_at = |(at, message)| read(message).map_err(|fault| fault.within(&format!("{field}[{at}]")));
    messages.iter().enumerate().map(read_at).collect()
}

/// The registry in `message`. Its rules are checked where it is applied.
pub fn registry(message: &v1::Registry) -> Result<RegistryFile, Malformed> {
    Ok(RegistryFile {
        participants: each("participants", &message.participants, participant)?,
        procedures: each("procedures", &message.procedures, procedure)?,
        datasets: each("datasets", &message.datasets, dataset)?,
        habilitations: each("habilitations", &message.habilitations, habilitation)?,
    })
}

fn participant(message: &v1::Participant) -> Result<Participant, Malformed> {
    let key = |key: &v1::EnrolledKey| {
        let roles = key.roles.iter().map(|number| role("roles", *number)).collect::<Result<_, _>>()?;
        Ok(EnrolledKey { fingerprint: parse("fingerprint", &key.fingerprint)?, roles, label: key.label.clone() })
    };
    Ok(Participant {
        siret: parse("siret", &message.siret)?,
        name: message.name.clone(),
        address: message.address.clone(),
        phone: message.phone.clone(),
        keys: each("keys", &message.keys, key)?,
    })
}

fn procedure(message: &v1::Procedure) -> Result<Procedure, Malformed> {
    let notice = |n: &v1::Notice| Notice { version: n.version, fr: n.fr.clone(), en: n.en.clone() };
    Ok(Procedure {
        id: parse("id", &message.id)?,
        title: message.title.clone(),
        consent_max_days: message.consent_max_days,
        notice_max_age_days: message.notice_max_age_days,
        trace_months: match message.trace_months {
            0 => Retention::TRACES.months(),
            months => u8::try_from(months).map_err(|_| Malformed::new("trace_months", "from 1 to 36"))?,
        },
        trace_article: message.trace_article.clone(),
        notices: message.notices.iter().map(notice).collect(),
    })
}

fn dataset(message: &v1::Dataset) -> Result<Dataset, Malformed> {
    let attribute = |a: &v1::DatasetAttribute| Attribute { name: a.name.clone(), title: a.title.clone() };
    Ok(Dataset {
        id: parse("id", &message.id)?,
        title: message.title.clone(),
        source: parse("source", &message.source)?,
        connector: parse("connector", &message.connector)?,
        version: message.version.clone(),
        class: dataset_class("class", message.class)?,
        preview_required: message.preview_required,
        filters: message.filters.clone(),
        attributes: message.attributes.iter().map(attribute).collect(),
    })
}

fn habilitation(message: &v1::Habilitation) -> Result<Habilitation, Malformed> {
    let grounds = message.grounds.iter().map(|number| ground_kind("grounds", *number));
    Ok(Habilitation {
        id: parse("id", &message.id)?,
        participant: parse("participant", &message.participant)?,
        legal_basis: message.legal_basis.clone(),
        procedures: parse_each("procedures", &message.procedures)?,
        attributes: parse_each("attributes", &message.attributes)?,
        grounds: grounds.collect::<Result<std::collections::BTreeSet<GroundKind>, _>>()?,
        recipients: parse_each("recipients", &message.recipients)?,
        retention_months: u16::try_from(message.retention_months)
            .map_err(|_| Malformed::new("retention_months", "at most 65535"))?,
        quota_per_day: message.quota_per_day,
        valid_from: instant("valid_from", message.valid_from.as_ref())?,
        valid_until: instant("valid_until", message.valid_until.as_ref())?,
        dpo_contact: message.dpo_contact.clone(),
        status: habilitation_status("status", message.status)?,
    })
}

/// The registry on the wire.
pub fn wire_registry(file: &RegistryFile) -> v1::Registry {
    v1::Registry {
        participants: file.participants.iter().map(wire_participant).collect(),
        procedures: file.procedures.iter().map(wire_procedure).collect(),
        datasets: file.datasets.iter().map(wire_dataset).collect(),
        habilitations: file.habilitations.iter().map(wire_habilitation).collect(),
    }
}

fn wire_participant(participant: &Participant) -> v1::Participant {
    let key = |key: &EnrolledKey| v1::EnrolledKey {
        fingerprint: key.fingerprint.to_string(),
        roles: key.roles.iter().map(|r| wire_role(*r)).collect(),
        label: key.label.clone(),
    };
    v1::Participant {
        siret: participant.siret.to_string(),
        name: participant.name.clone(),
        address: participant.address.clone(),
        phone: participant.phone.clone(),
        keys: participant.keys.iter().map(key).collect(),
    }
}

/// A procedure on the wire.
pub fn wire_procedure(procedure: &Procedure) -> v1::Procedure {
    let notice = |n: &Notice| v1::Notice { version: n.version, fr: n.fr.clone(), en: n.en.clone() };
    v1::Procedure {
        id: procedure.id.to_string(),
        title: procedure.title.clone(),
        consent_max_days: procedure.consent_max_days,
        notice_max_age_days: procedure.notice_max_age_days,
        notices: procedure.notices.iter().map(notice).collect(),
        trace_months: procedure.trace_months.into(),
        trace_article: procedure.trace_article.clone(),
    }
}

/// A dataset on the wire.
pub fn wire_dataset(dataset: &Dataset) -> v1::Dataset {
    let attribute = |a: &Attribute| v1::DatasetAttribute { name: a.name.clone(), title: a.title.clone() };
    v1::Dataset {
        id: dataset.id.to_string(),
        title: dataset.title.clone(),
        source: dataset.source.to_string(),
        connector: dataset.connector.to_string(),
        version: dataset.version.clone(),
        class: wire_dataset_class(dataset.class),
        preview_required: dataset.preview_required,
        filters: dataset.filters.clone(),
        attributes: dataset.attributes.iter().map(attribute).collect(),
    }
}

/// A habilitation on the wire.
pub fn wire_habilitation(habilitation: &Habilitation) -> v1::Habilitation {
    v1::Habilitation {
        id: habilitation.id.to_string(),
        participant: habilitation.participant.to_string(),
        legal_basis: habilitation.legal_basis.clone(),
        procedures: habilitation.procedures.iter().map(ToString::to_string).collect(),
        attributes: habilitation.attributes.iter().map(ToString::to_string).collect(),
        grounds: habilitation.grounds.iter().map(|g| wire_ground_kind(*g)).collect(),
        recipients: habilitation.recipients.iter().map(ToString::to_string).collect(),
        retention_months: u32::from(habilitation.retention_months),
        quota_per_day: habilitation.quota_per_day,
        valid_from: Some(wire_instant(habilitation.valid_from)),
        valid_until: Some(wire_instant(habilitation.valid_until)),
        dpo_contact: habilitation.dpo_contact.clone(),
        status: wire_habilitation_status(habilitation.status),
    }
}

#[cfg(test)]
mod tests;
