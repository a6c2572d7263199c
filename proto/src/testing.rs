//! Well-formed messages about a fictitious person, for tests to spoil.

use prost_types::Timestamp;

use crate::v1;
use crate::v1::exchange_request::Ground;

/// Stands in values that may never be seen again.
pub(crate) const MARKER: &str = "ZZMARKERZZ";

pub(crate) fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos })
}

/// Instants that are none: before 1970, after 9999, beyond counting, and with impossible parts of a second.
pub(crate) const NO_INSTANTS: [(i64, i32); 6] =
    [(-1, 0), (253_402_300_800, 0), (i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)];

pub(crate) fn identity() -> v1::Identity {
    v1::Identity {
        birth_name: "MARCHAND".to_owned(),
        usage_name: "Lefèvre".to_owned(),
        given_names: vec!["Camille".to_owned(), "Dominique".to_owned()],
        birth_date: "1988-04-17".to_owned(),
        sex: v1::Sex::Female.into(),
        birth_country: "99100".to_owned(),
        birth_commune: "35238".to_owned(),
    }
}

pub(crate) fn notice() -> v1::NoticeShown {
    v1::NoticeShown {
        version: 1,
        shown_at: at(1_788_251_340, 0),
        channel: v1::Channel::Online.into(),
        language: v1::Language::French.into(),
    }
}

pub(crate) fn exchange() -> v1::ExchangeRequest {
    v1::ExchangeRequest {
        request_id: "7f1c2c8e-5c1e-4ad0-8a58-0b6a4b0f5c11".to_owned(),
        agent: "portail-famille".to_owned(),
        recipient: "99999999900017".to_owned(),
        procedure: "tarification-cantine".to_owned(),
        habilitation: "ville-cantine".to_owned(),
        subject: Some(identity()),
        attributes: vec!["dss.quotient_familial.valeur".to_owned(), "dss.quotient_familial.mois".to_owned()],
        filters: vec![v1::DatasetFilter {
            dataset: "dss.quotient_familial".to_owned(),
            parameters: [("annee".to_owned(), "2026".to_owned())].into(),
        }],
        ground: Some(Ground::LawRequest(v1::LawRequest { notice: Some(notice()) })),
        mandate_id: String::new(),
        via: Vec::new(),
        france_connect_token: "ey.Jh".to_owned(),
    }
}

pub(crate) fn record() -> v1::RecordConsentRequest {
    v1::RecordConsentRequest {
        agent: "guichet-3".to_owned(),
        subject: Some(identity()),
        terms: Some(v1::ConsentTerms {
            procedure: "allocation-rentree".to_owned(),
            attributes: vec!["dss.quotient_familial.valeur".to_owned()],
            recipients: vec!["99999999800019".to_owned()],
            filters: Vec::new(),
            period: Some(v1::DataPeriod { from: "2026-01".to_owned(), to: "2026-12".to_owned() }),
            notice_version: 1,
            language: v1::Language::English as i32,
            not_before: at(1_788_251_400, 7_000_000),
            expires_at: at(1_819_787_400, 0),
            r#use: v1::ConsentUse::Periodic as i32,
            frequency: Some(v1::Frequency { times: 2, per: v1::TimeUnit::Month as i32 }),
            store: true,
            storage: Some(v1::DataStorage { value: 6, unit: v1::TimeUnit::Month as i32 }),
        }),
        channel: v1::Channel::Counter as i32,
        evidence_sha256: "ed".repeat(32),
        assurance: Some(v1::IdentityAssurance {
            level: v1::EidasLevel::Substantial as i32,
            acr: "eidas2".to_owned(),
            authenticated_at: at(1_788_251_400, 0),
        }),
        mandate_id: "ae".repeat(16),
        request_id: "c0".repeat(16),
    }
}

/// A field, and a way to spoil it.
pub(crate) type Spoilt<T> = (&'static str, fn(&mut T));

/// Ways to spoil an identity, and the field that is named for each.
pub(crate) const SPOILT_IDENTITIES: [Spoilt<v1::Identity>; 34] = [
    ("birth_name", |i| i.birth_name.clear()),
    ("birth_name", |i| i.birth_name = "  \t ".to_owned()),
    ("birth_name", |i| i.birth_name = MARKER.repeat(1_024)),
    ("birth_name", |i| i.birth_name = format!("{MARKER}\u{0}")),
    ("birth_name", |i| i.birth_name = format!("{MARKER}\u{1b}[2J")),
    ("birth_name", |i| i.birth_name = format!("\u{202e}{MARKER}")),
    ("birth_name", |i| i.birth_name = format!("{MARKER}\u{200b}")),
    ("birth_name", |i| i.birth_name = format!("<b>{MARKER}")),
    ("birth_name", |i| i.birth_name = "1234".to_owned()),
    ("usage_name", |i| i.usage_name = " ".to_owned()),
    ("usage_name", |i| i.usage_name = format!("{MARKER}\nx")),
    ("given_names", |i| i.given_names.clear()),
    ("given_names", |i| i.given_names = vec![MARKER.to_owned(); 17]),
    ("given_names[1]", |i| i.given_names[1].clear()),
    ("given_names[0]", |i| i.given_names[0] = format!("{MARKER}\u{2066}")),
    ("birth_date", |i| i.birth_date = MARKER.to_owned()),
    ("birth_date", |i| i.birth_date = "1988-AV-17".to_owned()),
    ("birth_date", |i| i.birth_date = "1988-02-30".to_owned()),
    ("birth_date", |i| i.birth_date = "1988-13".to_owned()),
    ("birth_date", |i| i.birth_date = "0000".to_owned()),
    ("birth_date", |i| i.birth_date = "17/04/1988".to_owned()),
    ("birth_date", |i| i.birth_date = "1988-04-17T00:00:00Z".to_owned()),
    ("birth_date", |i| i.birth_date = "١٩٨٨".to_owned()),
    ("sex", |i| i.sex = 0),
    ("sex", |i| i.sex = 4),
    ("sex", |i| i.sex = -1),
    ("birth_country", |i| i.birth_country.clear()),
    ("birth_country", |i| i.birth_country = "FR".to_owned()),
    ("birth_country", |i| i.birth_country = "35238".to_owned()),
    ("birth_country", |i| i.birth_country = MARKER.to_owned()),
    ("birth_commune", |i| i.birth_commune = MARKER.to_owned()),
    ("birth_commune", |i| i.birth_commune = "3523".to_owned()),
    ("birth_commune", |i| i.birth_commune = "2C004".to_owned()),
    ("birth_commune", |i| i.birth_commune = "35 238".to_owned()),
];
