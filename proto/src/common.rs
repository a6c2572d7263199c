//! Identity, notices and the enums that several messages share.

use unefois_consent::identity::{CogCode, MAX_GIVEN_NAMES, Sex};
use unefois_consent::{Channel, GroundKind, Language, Malformed, NoticeShown, PivotIdentity};

use crate::fields::{enum_conversion, instant, parse, parse_each, parse_optional, required, wire_instant};
use crate::v1;

enum_conversion!(channel, wire_channel, v1::Channel => Channel, Unspecified, {
    Online = Online, Counter = Counter, Phone = Phone, Post = Post,
});
enum_conversion!(language, wire_language, v1::Language => Language, Unspecified, { French = Fr, English = En });
enum_conversion!(ground_kind, wire_ground_kind, v1::GroundKind => GroundKind, Unspecified, {
    LawRequest = LawRequest, Proactive = Proactive, Consent = Consent, ExplicitRequest = ExplicitRequest,
});
enum_conversion!(sex, wire_sex, v1::Sex => Sex, Unspecified, { Female = Female, Male = Male, Other = Other });

/// The identity in `message`, found at the field `field`.
pub fn identity(field: &str, message: Option<&v1::Identity>) -> Result<PivotIdentity, Malformed> {
    let message = required(field, message)?;
    read_identity(message).map_err(|fault| fault.within(field))
}

fn read_identity(message: &v1::Identity) -> Result<PivotIdentity, Malformed> {
    if message.given_names.is_empty() || message.given_names.len() > MAX_GIVEN_NAMES {
        return Err(Malformed::new("given_names", "1 to 16 given names"));
    }
    let commune = match message.birth_commune.as_str() {
        "" => None,
        code => Some(CogCode::commune(code).map_err(|fault| fault.within("birth_commune"))?),
    };
    Ok(PivotIdentity {
        birth_name: parse("birth_name", &message.birth_name)?,
        usage_name: parse_optional("usage_name", &message.usage_name)?,
        given_names: parse_each("given_names", &message.given_names)?,
        birth_date: parse("birth_date", &message.birth_date)?,
        sex: sex("sex", message.sex)?,
        birth_country: CogCode::country(&message.birth_country).map_err(|fault| fault.within("birth_country"))?,
        birth_commune: commune,
    })
}

pub(crate) fn notice_shown(field: &str, message: Option<&v1::NoticeShown>) -> Result<NoticeShown, Malformed> {
    let message = required(field, message)?;
    let read = || {
        Ok(NoticeShown {
            version: message.version,
            shown_at: instant("shown_at", message.shown_at.as_ref())?,
            channel: channel("channel", message.channel)?,
            language: language("language", message.language)?,
        })
    };
    read().map_err(|fault: Malformed| fault.within(field))
}

pub(crate) fn wire_notice_shown(notice: &NoticeShown) -> v1::NoticeShown {
    v1::NoticeShown {
        version: notice.version,
        shown_at: Some(wire_instant(notice.shown_at)),
        channel: wire_channel(notice.channel),
        language: wire_language(notice.language),
    }
}

/// An identity on the wire, for clients.
pub fn wire_identity(identity: &PivotIdentity) -> v1::Identity {
    let date = identity.birth_date;
    let birth_date = match (date.year(), date.month(), date.day()) {
        (Some(year), Some(month), Some(day)) => format!("{year:04}-{month:02}-{day:02}"),
        (Some(year), Some(month), None) => format!("{year:04}-{month:02}"),
        (Some(year), None, _) => format!("{year:04}"),
        (None, ..) => String::new(),
    };
    v1::Identity {
        birth_name: identity.birth_name.as_str().to_owned(),
        usage_name: identity.usage_name.as_ref().map(|n| n.as_str().to_owned()).unwrap_or_default(),
        given_names: identity.given_names.iter().map(|n| n.as_str().to_owned()).collect(),
        birth_date,
        sex: wire_sex(identity.sex),
        birth_country: identity.birth_country.as_str().to_owned(),
        birth_commune: identity.birth_commune.as_ref().map(|c| c.as_str().to_owned()).unwrap_or_default(),
    }
}

/// The kind of a ground on the wire.
pub fn wire_kind_of_ground(kind: GroundKind) -> i32 {
    wire_ground_kind(kind)
}

#[cfg(test)]
mod tests;
