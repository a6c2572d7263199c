//! The end of the demonstration: everything is verified, and the commands to go on by hand.

use unefois_audit::{Receipt, VerifierKey};

use super::Stage;
use crate::cli::{Check, Failure, check_files, print_line, report_text, verify_receipt};
use crate::init::Layout;

/// Verifies the saved receipt offline and the whole log, decisions included.
pub(super) fn verify_everything(stage: &Stage) -> Result<(), Failure> {
    let failed = |error: String| Failure::Failed(error);
    let key: VerifierKey =
        stage.verifier_key.parse().map_err(|error: unefois_audit::AuditError| failed(error.to_string()))?;
    print_line("\n11. Anyone can check it");
    let path = stage.path().join("receipt.json");
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let receipt = Receipt::from_json(&text).map_err(|error| failed(error.to_string()))?;
    let checked = verify_receipt(&receipt, &key, None)?;
    print_line(format!(
        "      receipt of step 1, offline: it is entry {} of a tree of {} that the log signed",
        checked.index, checked.size
    ));
    let verified = check_files(&stage.data, &key, Check::Verify)?;
    print_line(format!("      the log: {}", report_text(&verified, Check::Verify)));
    let replayed = check_files(&stage.data, &key, Check::Replay)?;
    print_line(format!("      the decisions: {}", report_text(&replayed, Check::Replay)));
    Ok(())
}

/// Prints how to go on by hand.
pub(super) fn commands(stage: &Stage, layout: &Layout, serving: bool) {
    let path = stage.path().display();
    let key = &stage.verifier_key;
    print_line(format!(
        "\nGo on by hand\n  \
         unefois receipt verify {path}/receipt.json --key '{key}'\n  \
         unefois audit replay --config {path}/unefois.toml"
    ));
    if !serving {
        print_line(
            "\nKeep a broker running, with commands to ask it:\n  unefois demo --serve\n\
             (with cargo: cargo run --release -- demo --serve)",
        );
        return;
    }
    print_line(format!(
        "  unefois exchange --profile {path}/clients/ville.toml --subject {path}/personne.toml \\\n      \
         --procedure tarification-cantine --attribute dss.quotient_familial.valeur\n  \
         unefois consent list --profile {path}/clients/departement.toml --subject {path}/personne.toml\n  \
         unefois audit list --profile {path}/clients/dpo.toml\n  \
         unefois registry show --profile {path}/clients/operateur.toml\n  \
         grpcurl -cacert {path}/pki/ca.pem -cert {path}/clients/ville.pem -key {path}/clients/ville.key \\\n      \
         -servername localhost {listen} list",
        listen = layout.listen,
    ));
    if let Some(metrics) = layout.metrics {
        print_line(format!("  curl http://{metrics}/metrics"));
    }
    print_line("\nThe broker runs until Ctrl-C.");
}
