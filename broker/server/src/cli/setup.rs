//! `init`, `check-config`, `fingerprint`.

use std::path::PathBuf;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::Failure;
use super::output::line;
use crate::config::Loaded;
use crate::init::{Layout, init as make};

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// The folder; nothing in it is ever replaced
    folder: PathBuf,
    /// Address and port on which the broker will listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    listen: std::net::SocketAddr,
}

pub(crate) fn init(args: &InitArgs) -> Result<(), Failure> {
    let layout = Layout { listen: args.listen, ..Layout::development() };
    let folder = make(&args.folder, &layout).map_err(|error| Failure::Failed(error.to_string()))?;
    let path = folder.path.display();
    line(format!(
        "Made {path}: a development CA, certificates, keys, configuration and a sample registry. Not for production.\n\n\
         Start the broker:\n  unefois serve --config {path}/unefois.toml\n\n\
         Ask it, as the fictitious town hall, for what it holds itself:\n  \
         unefois exchange --profile {path}/clients/ville.toml --subject {path}/personne.toml \\\n    \
         --procedure tarification-cantine --attribute saint-exemple.periscolaire.enfants_inscrits\n\n\
         For API Particulier, put your token in {path}/secrets/api-particulier.token."
    ));
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckConfigArgs {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "unefois.toml")]
    config: PathBuf,
}

pub(crate) fn check_config(args: &CheckConfigArgs) -> Result<(), Failure> {
    let loaded = Loaded::open(&args.config)?;
    crate::rpc::access::check_complete().map_err(Failure::Failed)?;
    line(format!(
        "{} is in order: {} connectors; first registry of {} participants, {} datasets, {} habilitations.\nThe log's verifier key is {}",
        args.config.display(),
        loaded.connectors.len(),
        loaded.registry.participants.len(),
        loaded.registry.datasets.len(),
        loaded.registry.habilitations.len(),
        loaded.signer.verifier_key(),
    ));
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct FingerprintArgs {
    /// A certificate, PEM
    certificate: PathBuf,
}

pub(crate) fn fingerprint(args: &FingerprintArgs) -> Result<(), Failure> {
    let fault = |problem: String| Failure::Usage(format!("{}: {problem}", args.certificate.display()));
    let certificate = CertificateDer::from_pem_file(&args.certificate).map_err(|error| fault(error.to_string()))?;
    let key = crate::tls::fingerprint(&certificate)
        .ok_or_else(|| fault("holds no certificate that can be read".to_owned()))?;
    line(key.to_string());
    Ok(())
}
