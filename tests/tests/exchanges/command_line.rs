//! The binary as a person and a script meet it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;
use unefois_tests::process::{self, Process, run};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output));
    text(&output)
}

#[track_caller]
fn fails(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    text(&output)
}

fn folder() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("broker");
    process::folder(&path, process::free_address());
    (root, path)
}

fn at(path: &Path, name: &str) -> String {
    path.join(name).to_str().unwrap().to_owned()
}

fn change(path: &Path, name: &str, from: &str, to: &str) {
    let file = path.join(name);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn help_says_what_each_command_does_with_an_example() {
    let help = succeeds(&["--help"]);
    for command in
        ["demo", "init", "serve", "check-config", "exchange", "registry", "consent", "audit", "receipt", "witness"]
    {
        assert!(help.contains(command), "{command}");
    }
    assert!(help.contains("Exit codes"));
    for command in [
        vec!["demo"],
        vec!["init"],
        vec!["serve"],
        vec!["check-config"],
        vec!["fingerprint"],
        vec!["exchange"],
        vec!["registry", "apply"],
        vec!["registry", "show"],
        vec!["consent", "grant"],
        vec!["consent", "withdraw"],
        vec!["consent", "list"],
        vec!["audit", "list"],
        vec!["audit", "verify"],
        vec!["audit", "replay"],
        vec!["receipt", "verify"],
        vec!["witness", "init"],
        vec!["witness", "serve"],
    ] {
        let help = succeeds(&[&command[..], &["--help"]].concat());
        assert!(help.contains("Example:"), "{command:?}: {help}");
    }
    fails(2, &["no-such-command"]);
    fails(2, &["exchange", "--profile", "x"]);
}

#[test]
fn the_demonstration_plays_its_whole_story() {
    let root = tempfile::tempdir().unwrap();
    let output = succeeds(&["demo", "--dir", &at(root.path(), "demo")]);
    for part in [
        "dss.quotient_familial.valeur = 742 [FOUND]",
        "[ATTRIBUTE_NOT_COVERED]",
        "[CONSENT_MISSING]",
        "[CONSENT_WITHDRAWN]",
        "[NOT_ALLOWED]",
        "refused at the handshake",
        "[SOURCE_DOWN]",
        "[AMBIGUOUS]",
        "offline: it is entry",
        "verified",
        "replayed",
        "Go on by hand",
    ] {
        assert!(output.contains(part), "{part} is missing in:\n{output}");
    }
    // Nothing of what was made is replaced.
    fails(1, &["demo", "--dir", &at(root.path(), "demo")]);
}

#[test]
fn a_wrong_configuration_is_refused_with_the_key_and_what_to_change() {
    let chmod = |path: &Path, name: &str, mode: u32| {
        std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    type Harm = Box<dyn Fn(&Path)>;
    let cases: Vec<(&str, Harm)> = vec![
        ("unknown field `listne`", Box::new(|p| change(p, "unefois.toml", "listen =", "listne ="))),
        ("tls.private_key", Box::new(move |p| chmod(p, "pki/server.key", 0o640))),
        ("chmod 600", Box::new(move |p| chmod(p, "keys/log.key", 0o604))),
        ("token_file", Box::new(move |p| chmod(p, "secrets/api-particulier.token", 0o644))),
        ("tls.certificate", Box::new(|p| std::fs::remove_file(p.join("pki/server.pem")).unwrap())),
        (
            "tls.certificate",
            Box::new(|p| assert!(std::fs::copy(p.join("pki/ca.pem"), p.join("pki/server.pem")).is_ok())),
        ),
        ("tls.crl", Box::new(|p| change(p, "unefois.toml", "crl = [\"pki/ca.crl\"]", "crl = []"))),
        (
            "log.signing_key",
            Box::new(|p| assert!(std::fs::copy(p.join("pki/server.key"), p.join("keys/log.key")).is_ok())),
        ),
        ("registry.bootstrap", Box::new(|p| change(p, "registry.toml", "LAW_REQUEST", "LAW_REQUESTS"))),
        ("medical", Box::new(|p| change(p, "registry.toml", "class = \"ordinary\"", "class = \"medical\""))),
        (
            "connectors.api-particulier",
            Box::new(|p| change(p, "unefois.toml", "[connectors.api-particulier]", "[connectors.other]")),
        ),
        (
            "store.segment_mb",
            Box::new(|p| change(p, "unefois.toml", "path = \"data\"", "path = \"data\"\nsegment_mb = 0")),
        ),
        ("connectors.periscolaire", Box::new(|p| change(p, "sources/periscolaire.csv", "1988-04-17", "1988-13-17"))),
    ];
    for (said, harm) in cases {
        let (_root, path) = folder();
        succeeds(&["check-config", "--config", &at(&path, "unefois.toml")]);
        harm(&path);
        let output = fails(2, &["check-config", "--config", &at(&path, "unefois.toml")]);
        assert!(output.contains(said), "{said:?} is missing in: {output}");
        assert!(!output.contains("MARCHAND"), "{output}");
        // `serve` refuses for the same reason.
        let served = fails(2, &["serve", "--config", &at(&path, "unefois.toml")]);
        assert!(served.contains(said), "{said:?} is missing in: {served}");
    }
    fails(2, &["check-config", "--config", "/no/such/file.toml"]);
}

#[test]
fn a_session_by_hand_works_with_the_commands_that_init_prints() {
    let (_root, path) = folder();
    let broker = Process::serve(&path.join("unefois.toml"));
    let (ville, departement, dpo, operateur) = (
        at(&path, "clients/ville.toml"),
        at(&path, "clients/departement.toml"),
        at(&path, "clients/dpo.toml"),
        at(&path, "clients/operateur.toml"),
    );
    let (person, receipt, answer) = (at(&path, "personne.toml"), at(&path, "r.json"), at(&path, "answer.json"));
    let children = "saint-exemple.periscolaire.enfants_inscrits";
    let ask = [
        "exchange",
        "--profile",
        &ville,
        "--subject",
        &person,
        "--procedure",
        "tarification-cantine",
        "--attribute",
        children,
    ];
    let output = succeeds(&[&ask[..], &["--receipt", &receipt]].concat());
    assert!(output.contains("= 2 [FOUND]"), "{output}");
    // A consent is never left aside: it is the ground, or the call is wrong.
    let consent = ["--consent", "00112233445566778899aabbccddeeff"];
    let error = fails(2, &[&ask[..], &["--ground", "law-request"], &consent].concat());
    assert!(error.contains("--ground consent"), "{error}");
    fails(3, &[&ask[..], &consent].concat());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&receipt).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // A receipt is never written over.
    let said = fails(2, &[&ask[..], &["--receipt", &receipt]].concat());
    assert!(said.contains("exists already"), "{said}");
    std::fs::remove_file(&receipt).unwrap();
    let output = run(&[&ask[..], &["--json", "--receipt", &receipt]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["attributes"][0]["value"], 2);
    std::fs::write(&answer, &output.stdout).unwrap();

    let key = {
        let checked = succeeds(&["check-config", "--config", &at(&path, "unefois.toml")]);
        checked.trim().rsplit(' ').next().unwrap().to_owned()
    };
    // The receipt of the same entry anew, and of an entry that is for auditors.
    let index = {
        let text = std::fs::read_to_string(&receipt).unwrap();
        let verified = unefois_audit::Receipt::from_json(&text).unwrap().verify(&key.parse().unwrap()).unwrap();
        verified.index.to_string()
    };
    let anew = at(&path, "anew.json");
    succeeds(&["receipt", "get", &index, "--profile", &ville, "--out", &anew]);
    assert!(succeeds(&["receipt", "verify", &anew, "--key", &key]).contains(&format!("as entry {index}")));
    fails(3, &["receipt", "get", "0", "--profile", &ville, "--out", &at(&path, "none.json")]);
    assert!(!path.join("none.json").exists());
    let output = succeeds(&["receipt", "verify", &receipt, "--key", &key, "--answer", &answer]);
    assert!(output.contains("This receipt holds") && output.contains("Not proven"), "{output}");
    std::fs::write(&answer, output_with(&json, 3)).unwrap();
    fails(1, &["receipt", "verify", &receipt, "--key", &key, "--answer", &answer]);
    std::fs::write(&answer, [0xff; 9]).unwrap();
    let said = fails(1, &["receipt", "verify", &receipt, "--key", &key, "--answer", &answer]);
    assert!(said.contains("is not UTF-8"), "{said}");
    let said = fails(1, &["me", "consents", "--id-token", &answer, "--profile", &ville]);
    assert!(said.contains("is not UTF-8"), "{said}");
    let changed = std::fs::read_to_string(&receipt).unwrap().replacen("FOUND", "FOUMD", 1);
    std::fs::write(&receipt, changed).unwrap();
    fails(1, &["receipt", "verify", &receipt, "--key", &key]);

    let refused = fails(
        3,
        &[
            "exchange",
            "--profile",
            &ville,
            "--subject",
            &person,
            "--procedure",
            "tarification-cantine",
            "--attribute",
            "dss.quotient_familial.adresse",
        ],
    );
    assert!(refused.contains("[ATTRIBUTE_NOT_COVERED]") && refused.contains("logged as entry"), "{refused}");
    fails(2, &["exchange", "--profile", &ville, "--subject", "/no/such", "--procedure", "x", "--attribute", children]);

    let quotient = "dss.quotient_familial.valeur";
    let output = succeeds(&[
        "consent",
        "grant",
        "--profile",
        &departement,
        "--subject",
        &person,
        "--procedure",
        "allocation-rentree",
        "--attribute",
        quotient,
        "--json",
    ]);
    let granted: serde_json::Value = serde_json::from_str(&output).unwrap();
    let id = granted["id"].as_str().unwrap();
    assert!(succeeds(&["consent", "list", "--profile", &departement, "--subject", &person]).contains("in force until"));
    assert!(succeeds(&["consent", "withdraw", id, "--profile", &departement]).contains("withdrawn"));
    fails(3, &["consent", "withdraw", id, "--profile", &ville]);

    let listed = succeeds(&["audit", "list", "--profile", &dpo, "--count", "50"]);
    assert!(listed.contains("requested") && listed.contains("consent withdrawn"), "{listed}");
    fails(3, &["audit", "list", "--profile", &ville]);
    for check in ["verify", "replay"] {
        // Beside the running broker.
        succeeds(&["audit", check, "--config", &at(&path, "unefois.toml")]);
        succeeds(&["audit", check, "--data", &at(&path, "data"), "--key", &key, "--json"]);
    }

    change(&path, "registry.toml", "retention_months = 12", "retention_months = 6");
    let planned = succeeds(&["registry", "apply", &at(&path, "registry.toml"), "--profile", &operateur, "--dry-run"]);
    assert!(planned.contains("retention_months: 12 → 6") && planned.contains("Nothing was changed"), "{planned}");
    fails(2, &["registry", "apply", &at(&path, "registry.toml"), "--profile", &operateur]);
    succeeds(&["registry", "apply", &at(&path, "registry.toml"), "--profile", &operateur, "--yes"]);
    let shown = run(&["registry", "show", "--profile", &operateur]);
    std::fs::write(path.join("shown.toml"), &shown.stdout).unwrap();
    let again = succeeds(&["registry", "apply", &at(&path, "shown.toml"), "--profile", &operateur, "--yes"]);
    assert!(again.contains("nothing to change"), "{again}");
    // A file that was taken before another change would undo it.
    change(&path, "registry.toml", "retention_months = 6", "retention_months = 5");
    succeeds(&["registry", "apply", &at(&path, "registry.toml"), "--profile", &operateur, "--yes"]);
    let stale = fails(3, &["registry", "apply", &at(&path, "shown.toml"), "--profile", &operateur, "--yes"]);
    assert!(stale.contains("was taken from version") && stale.contains("registry show"), "{stale}");

    let fingerprint = succeeds(&["fingerprint", &at(&path, "clients/ville.pem")]);
    assert!(std::fs::read_to_string(path.join("registry.toml")).unwrap().contains(fingerprint.trim()));
    assert_eq!(broker.terminate(), Some(0));
    let gone = fails(1, &["audit", "list", "--profile", &dpo]);
    assert!(gone.contains("is the broker running?"), "{gone}");
}

fn output_with(json: &serde_json::Value, value: u64) -> String {
    let mut json = json.clone();
    json["attributes"][0]["value"] = value.into();
    json.to_string()
}

#[test]
fn a_file_of_somebody_else_that_is_no_text_is_told_in_a_sentence_and_proves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (path, key) =
        (root.path().join("broker"), "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k");
    process::folder(&path, process::free_address());
    let (bad, ville) = (at(root.path(), "bad"), at(&path, "clients/ville.toml"));
    std::fs::write(&bad, b"{\"\xff\xfe\": 1}\n").unwrap();
    let copy = |name: &str| {
        std::fs::create_dir(root.path().join(name)).unwrap();
        std::fs::copy(&bad, root.path().join(name).join("checkpoint")).unwrap();
        at(root.path(), name)
    };
    let (source, own, empty) = (copy("source"), copy("own"), at(root.path(), "empty"));
    for arguments in [
        &["receipt", "verify", &bad, "--key", key][..],
        &["receipt", "get", "--of", &bad, "--profile", &ville, "--out", &at(root.path(), "new.json")],
        &["audit", "mirror", &source, &empty, "--key", key],
        &["audit", "mirror", &source, &own, "--key", key],
    ] {
        let said = fails(1, arguments);
        assert!(said.starts_with("unefois: ") && said.trim_end().lines().count() == 1, "{arguments:?}: {said}");
        assert!(said.contains("not UTF-8"), "{arguments:?}: {said}");
    }
    // A policy is the reader's own, like a configuration.
    let policy = at(root.path(), "policy");
    std::fs::write(&policy, b"log \xff\nquorum none\n").unwrap();
    let said = fails(2, &["audit", "mirror", &source, &empty, "--policy", &policy]);
    assert!(said.trim_end().lines().count() == 1, "{said}");
    // A key that proves nothing is no key, wherever it is given.
    let weak = "log.example+f3e73440+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for arguments in
        [&["receipt", "verify", &bad, "--key", weak][..], &["audit", "mirror", &source, &empty, "--key", weak]]
    {
        assert!(fails(2, arguments).contains("small order"), "{arguments:?}");
    }
}

#[test]
fn a_log_that_was_changed_is_found_out() {
    use std::os::unix::fs::FileExt;
    let (_root, path) = folder();
    let broker = Process::serve(&path.join("unefois.toml"));
    // A second batch.
    succeeds(&["audit", "list", "--profile", &at(&path, "clients/dpo.toml")]);
    assert_eq!(broker.terminate(), Some(0));
    succeeds(&["audit", "verify", "--config", &at(&path, "unefois.toml")]);
    let segment = path.join("data/journal/00000000000000000000.seg");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096 + 500).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4096 + 500).unwrap();
    let output = fails(1, &["audit", "verify", "--config", &at(&path, "unefois.toml")]);
    assert!(output.contains("damaged at byte 4096"), "{output}");
    let output = fails(1, &["serve", "--config", &at(&path, "unefois.toml")]);
    assert!(output.contains("Restore the folder from a backup"), "{output}");
}

#[test]
fn a_second_broker_on_one_folder_is_refused() {
    let (_root, path) = folder();
    let broker = Process::serve(&path.join("unefois.toml"));
    let output = fails(1, &["serve", "--config", &at(&path, "unefois.toml")]);
    assert!(output.contains("is a broker running on this folder?"), "{output}");
    assert_eq!(broker.terminate(), Some(0));
}
