use super::*;
use crate::testing::{MARKER, NO_INSTANTS, Spoilt, at};

fn file() -> RegistryFile {
    let classes = ["ordinary", "medical", "defence"].map(|class| {
        serde_json::json!({
            "id": format!("dss.{class}"), "title": "QF", "source": "13002526500013", "connector": "caf", "version": "v3",
            "class": class, "preview_required": class == "ordinary", "filters": ["annee"],
            "attributes": [{ "name": "valeur", "title": "Valeur" }, { "name": "mois", "title": "Mois" }],
        })
    });
    let habilitations = ["active", "obsolete", "revoked"].map(|status| {
        serde_json::json!({
            "id": status, "participant": "99999999900017", "legal_basis": "CRPA L114-8", "procedures": ["cantine"],
            "attributes": ["dss.ordinary.mois", "dss.ordinary.valeur"],
            "grounds": ["LAW_REQUEST", "PROACTIVE", "CONSENT", "EXPLICIT_REQUEST"],
            "recipients": ["99999999800019", "99999999900017"], "retention_months": 12,
            "quota_per_day": (status == "active").then_some(u64::MAX), "valid_from": "2026-01-01T00:00:00.001Z",
            "valid_until": "2027-01-01T00:00:00Z", "dpo_contact": "dpo@exemple.example", "status": status,
        })
    });
    let file = serde_json::json!({
        "participants": [{
            "siret": "99999999900017", "name": "Commune",
            "keys": [{ "fingerprint": "a1".repeat(32), "roles": ["exchange", "audit", "registry"], "label": "ville" }],
        }],
        "procedures": [{
            "id": "cantine", "title": "Cantine", "consent_max_days": 30, "notice_max_age_days": 7, "trace_months": 12, "trace_article": "2022/1463 art. 17",
            "notices": [{ "version": 1, "fr": "Nous…", "en": "We…" }, { "version": 2, "fr": "Nous…", "en": "We…" }],
        }],
        "datasets": classes,
        "habilitations": habilitations,
    });
    serde_json::from_value(file).unwrap()
}

#[test]
fn a_registry_comes_back_from_the_wire_as_it_was() {
    assert_eq!(registry(&wire_registry(&file())).unwrap(), file());
    assert_eq!(registry(&v1::Registry::default()).unwrap(), RegistryFile::default());
}

#[test]
fn a_malformed_field_is_named() {
    let spoilt: [Spoilt<v1::Registry>; 25] = [
        ("participants[0].siret", |r| r.participants[0].siret = MARKER.to_owned()),
        ("participants[0].siret", |r| r.participants[0].siret = "99999999900018".to_owned()),
        ("participants[0].keys[0].fingerprint", |r| r.participants[0].keys[0].fingerprint = MARKER.to_owned()),
        ("participants[0].keys[0].roles", |r| r.participants[0].keys[0].roles.push(0)),
        ("participants[0].keys[0].roles", |r| r.participants[0].keys[0].roles.push(5)),
        ("procedures[0].id", |r| r.procedures[0].id = MARKER.to_owned()),
        ("datasets[1].id", |r| r.datasets[1].id = "dss".to_owned()),
        ("datasets[0].source", |r| r.datasets[0].source.clear()),
        ("datasets[0].connector", |r| r.datasets[0].connector = MARKER.to_owned()),
        ("datasets[0].class", |r| r.datasets[0].class = 0),
        ("datasets[0].class", |r| r.datasets[0].class = 4),
        ("habilitations[2].id", |r| r.habilitations[2].id.clear()),
        ("habilitations[0].participant", |r| r.habilitations[0].participant = MARKER.to_owned()),
        ("habilitations[0].procedures[0]", |r| r.habilitations[0].procedures[0] = MARKER.to_owned()),
        ("habilitations[0].attributes[1]", |r| r.habilitations[0].attributes[1] = MARKER.to_owned()),
        ("habilitations[0].grounds", |r| r.habilitations[0].grounds.push(0)),
        ("habilitations[0].grounds", |r| r.habilitations[0].grounds.push(5)),
        ("habilitations[0].recipients[1]", |r| r.habilitations[0].recipients[1] = MARKER.to_owned()),
        ("habilitations[0].retention_months", |r| r.habilitations[0].retention_months = 65_536),
        ("habilitations[0].valid_from", |r| r.habilitations[0].valid_from = None),
        ("habilitations[0].valid_until", |r| r.habilitations[0].valid_until = None),
        ("habilitations[0].status", |r| r.habilitations[0].status = 0),
        ("habilitations[0].status", |r| r.habilitations[0].status = 4),
        ("habilitations[0].status", |r| r.habilitations[0].status = -1),
        ("habilitations[1].id", |r| r.habilitations[1].id = "é".to_owned()),
    ];
    let fault = |message: &v1::Registry| {
        let fault = registry(message).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains(MARKER), "{fault}");
        fault.field
    };
    for (at, (field, spoil)) in spoilt.into_iter().enumerate() {
        let mut message = wire_registry(&file());
        spoil(&mut message);
        assert_eq!(fault(&message), field, "case {at}");
    }
    for (seconds, nanos) in NO_INSTANTS {
        let mut message = wire_registry(&file());
        message.habilitations[0].valid_until = at(seconds, nanos);
        assert_eq!(fault(&message), "habilitations[0].valid_until");
    }
}
