//! `unefois me …` against the real broker, as a person would go through it.

use std::path::Path;

use serde_json::Value;
use unefois_tests::process::{self, Process, run};

/// What a command printed as JSON; it must succeed.
#[track_caller]
fn said(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains(folder.to_str().unwrap()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_person_reads_gives_renews_objects_and_ends_by_command_line() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("broker");
    process::folder(&path, process::free_address());
    let at = |name: &str| path.join(name).to_str().unwrap().to_owned();
    let broker = Process::serve(&path.join("unefois.toml"));
    let (department, portal, person, token) =
        (at("clients/departement.toml"), at("clients/portail.toml"), at("personne.toml"), at("jeton.jwt"));
    let signed = run(&["me", "token", "--key", &at("pki/identite.key"), "--subject", &person]);
    std::fs::write(&token, signed.stdout).unwrap();
    let me = |command: &[&str]| {
        let (name, rest) = command.split_first().unwrap();
        said(&path, &[&["me", name, "--profile", &portal, "--id-token", &token], rest].concat())
    };

    let attribute = ["--procedure", "allocation-rentree", "--attribute", "dss.quotient_familial.valeur"];
    let by_department = ["--profile", &department, "--subject", &person];
    let asked = said(&path, &[&["consent", "request"], &by_department[..], &attribute].concat());
    let id = asked["consent"]["id"].as_str().unwrap().to_owned();
    assert_eq!(me(&["consents", "--waiting"])[0]["id"], *id);
    let listed = run(&["me", "consents", "--profile", &portal, "--id-token", &token]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(unefois::init::DEPARTMENT) && listed.contains("unefois me show"), "{listed}");
    assert!(me(&["show", &id])["consumer_name"].as_str().is_some_and(|name| !name.is_empty()));
    assert_eq!(me(&["grant", &id])["state"], "GIVEN");
    let renewed = me(&["renew", &id, "--days", "30"]);
    assert_eq!((&renewed["version"], &renewed["state"]), (&2.into(), &"RENEWED".into()));
    assert_eq!(me(&["decide", &id, "withdraw"])["state"], "WITHDRAWN");

    me(&["object", unefois::init::DEPARTMENT]);
    let mut objections = me(&["objections"]);
    let lapses = objections[0].as_object_mut().and_then(|objection| objection.remove("lapses_at"));
    assert!(lapses.as_ref().and_then(|at| at.as_str()).is_some_and(|at| at.ends_with('Z')), "{lapses:?}");
    assert_eq!(objections, serde_json::json!([{ "consumer": unefois::init::DEPARTMENT, "procedure": "" }]));
    me(&["object", unefois::init::DEPARTMENT, "--lift"]);
    assert_eq!(me(&["objections"]), serde_json::json!([]));
    let twice = run(&["me", "object", unefois::init::DEPARTMENT, "--lift", "-p", &portal, "--id-token", &token]);
    assert!(!twice.status.success(), "there is nothing to lift");

    // Camille gives somebody a mandate, at the department's counter, and ends it from home.
    let other = at("autre.toml");
    let text = std::fs::read_to_string(&person).unwrap();
    std::fs::write(&other, text.replace("MARCHAND", "AUTRE")).unwrap();
    let mandate = said(
        &path,
        &[
            "mandate",
            "record",
            "--profile",
            &department,
            "--principal",
            &person,
            "--representative",
            &other,
            "--kind",
            "mandatary",
            "--proof",
            &"f0".repeat(32),
            "--days",
            "30",
        ],
    );
    let mandate = mandate["id"].as_str().unwrap().to_owned();
    assert_eq!(me(&["mandates"])[0]["mandate"]["id"], *mandate);
    assert!(me(&["end-mandate", &mandate])["ended_at"].is_string());
    drop(broker);
}
