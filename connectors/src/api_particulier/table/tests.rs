use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;

/// A file of API Particulier's own data, where it is there.
fn official(name: &str) -> Option<String> {
    let shared: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/api-particulier");
    let text = std::fs::read_to_string(shared.join(name)).ok();
    if text.is_none() {
        println!("not compared: {name} is not there");
    }
    text
}

#[test]
fn a_version_is_read_as_its_major_number() {
    for good in ["3", "v3", "3.1", "v3.0.2"] {
        assert!(row("dss.quotient_familial", good).is_some(), "{good}");
    }
    for bad in ["", "v", "2", "v4", "30", "three"] {
        assert!(row("dss.quotient_familial", bad).is_none(), "{bad}");
    }
}

#[test]
fn versions_live_side_by_side_under_ids_that_end_in_them() {
    let version = |id, version| row(id, version).map(|row| row.version);
    assert_eq!(version("cnous.etudiant_boursier", "v3"), Some(3));
    assert_eq!(version("cnous.etudiant_boursier", "v4"), Some(4));
    assert_eq!(version("cnous.etudiant_boursier.v4", "v4"), Some(4));
    assert_eq!(version("men.scolarites.v5", "5.1"), Some(5));
    for (id, other) in [
        ("cnous.etudiant_boursier.v4", "v3"),
        ("cnous.etudiant_boursier.v5", "v5"),
        ("cnous.etudiant_boursierv4", "v4"),
        ("cnous.etudiant_boursier.v04", "v4"),
        ("cnous.etudiant_boursier.4", "v4"),
    ] {
        assert_eq!(version(id, other), None, "{id} {other}");
    }
}

#[test]
fn filters_are_checked_before_they_leave() {
    use FilterForm::{Codes, Degree, Identifier, Ine, Month, Plate, SchoolYear, Uai, Year};
    for (form, good, sent) in [
        (Year, "2026", &["2026"][..]),
        (Month, "05", &["5"]),
        (Month, "12", &["12"]),
        (Ine, "1234567890G", &["1234567890G"]),
        (Identifier, "jean.dupont33", &["jean.dupont33"]),
        (Plate, "AA-123-BB", &["AA-123-BB"]),
        (SchoolYear, "2025", &["2025"]),
        (SchoolYear, "2025-2026", &["2025-2026"]),
        (Uai, "0210015c", &["0210015c"]),
        (Degree, "1D", &["1D"]),
        (Codes, "075", &["075"]),
        (Codes, "075,02A", &["075", "02A"]),
    ] {
        let expected: Vec<String> = sent.iter().map(|s| (*s).to_owned()).collect();
        assert_eq!(form.accept(good), Some(expected), "{good}");
    }
    for (form, bad) in [
        (Year, "26"),
        (Year, "20266"),
        (Year, "２０２６"),
        (Month, "0"),
        (Month, "13"),
        (Month, "+5"),
        (Month, "005"),
        (Month, ""),
        (Ine, "1234567890"),
        (Ine, "1234567890GG"),
        (Ine, "1234567890-"),
        (Identifier, ""),
        (Identifier, "a b"),
        (Plate, "AA 123 BB"),
        (SchoolYear, "2025-26"),
        (SchoolYear, "2025-"),
        (SchoolYear, "2025-2026-2027"),
        (Uai, "02100151"),
        (Uai, "210015C"),
        (Uai, ""),
        (Degree, "3D"),
        (Codes, "075,"),
        (Codes, ""),
        (Codes, "a&b"),
    ] {
        assert_eq!(form.accept(bad), None, "{bad}");
    }
}

#[test]
fn no_row_and_no_name_in_a_row_is_there_twice() {
    let mut rows = BTreeSet::new();
    for row in datasets() {
        assert!(rows.insert((row.dataset, row.version)), "{}", row.dataset);
        let names: BTreeSet<_> = row.attributes.iter().map(|a| a.name).collect();
        assert_eq!(names.len(), row.attributes.len(), "{}", row.dataset);
        for name in row.one_of.iter().chain(row.routes.iter().filter_map(|route| match &route.modality {
            Modality::Number(filter) => Some(filter),
            Modality::Identity(_) | Modality::FranceConnect => None,
        })) {
            assert!(row.filter(name).is_some(), "{} {name}", row.dataset);
        }
    }
}

#[test]
fn ids_and_attributes_are_names_of_the_registry() {
    for row in datasets() {
        let id: unefois_consent::DatasetId = row.dataset.parse().unwrap();
        for attribute in row.attributes {
            assert!(id.attribute(attribute.name).is_ok(), "{}.{}", row.dataset, attribute.name);
        }
    }
}

#[test]
fn a_shape_admits_its_type_and_null() {
    let object = Shape::Object(&[("a", Shape::Integer)]);
    let all = [Shape::Integer, Shape::Number, Shape::Text, Shape::Flag, Shape::List(&Shape::Integer), object];
    let values = [json!(1), json!(1.5), json!("a"), json!(true), json!([1]), json!({"a": 1, "b": []})];
    for (at, shape) in all.iter().enumerate() {
        for (of, value) in values.iter().enumerate() {
            // A whole number is a number.
            assert_eq!(shape.admits(value), at == of || (at, of) == (1, 0), "{shape:?} {value}");
        }
        assert!(shape.admits(&Value::Null));
    }
    assert!(!object.admits(&json!({"a": "1"})) && object.admits(&json!({})));
    assert!(!Shape::List(&Shape::Integer).admits(&json!([1, "1"])));
}

#[test]
fn every_path_of_the_openapi_is_a_route_and_no_other() {
    let Some(openapi) = official("openapi-particulier.yaml") else { return };
    let offered: BTreeSet<_> = openapi
        .lines()
        .filter(|l| l.starts_with("  \"/v") || l.starts_with("  /v"))
        .map(|l| l.trim().trim_end_matches(':').trim_matches('"'))
        .collect();
    let routes: BTreeSet<_> = datasets().flat_map(|row| row.routes).map(|route| route.path).collect();
    assert_eq!(routes, offered);
    for row in datasets() {
        for route in row.routes {
            let name = row.dataset.replace('.', "/");
            assert!(route.path.starts_with(&format!("/v{}/{name}/", row.version)), "{}", route.path);
        }
    }
}

#[test]
fn every_scope_of_the_official_table_gives_an_attribute_of_its_fields() {
    let Some(table) = official("scopes_to_fields.csv") else { return };
    let mut scopes = BTreeSet::new();
    for line in table.lines().skip(1) {
        let [scope, endpoint, fields] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let dataset = endpoint.replace('/', ".");
        let under: Vec<&AttributeRow> = datasets()
            .filter(|row| row.dataset == dataset)
            .flat_map(|row| row.attributes)
            .filter(|attribute| attribute.scope == scope)
            .collect();
        assert!(!under.is_empty(), "no attribute under {scope}");
        for attribute in &under {
            let top = attribute.field.split(['.', '[']).next().unwrap();
            let covers = fields.contains(top)
                || (dataset.as_str(), attribute.name) == ("france_travail.indemnites", "identifiant");
            assert!(
                covers || fields.contains("dates") || fields.contains("organisme_accueil"),
                "{scope}: {}",
                attribute.field
            );
        }
        // `est_boursier(v3)` is a field of one version.
        for field in
            fields.split(';').map(|field| field.split('(').next().unwrap()).filter(|field| !field.contains('/'))
        {
            assert!(under.iter().any(|a| a.field.starts_with(field)), "{scope}: nothing for {field}");
        }
        scopes.insert(scope);
    }
    let known: BTreeSet<_> = datasets().flat_map(|row| row.attributes).map(|a| a.scope).collect();
    assert_eq!(known, scopes);
}
