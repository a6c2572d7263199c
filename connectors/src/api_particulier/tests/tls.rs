//! Certificates: a private authority is trusted where `ca_file` names it, and nowhere else.

use std::sync::Arc;

use hyper::{Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::logs::Logs;

/// An authority in PEM and a server for 127.0.0.1 under it that speaks `alpn`.
fn authority(alpn: &[u8]) -> (String, TlsAcceptor) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    (ca.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_where_ca_file_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (pem, tls) = authority(b"http/1.1");
    let (other, _) = authority(b"http/1.1");
    std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
    std::fs::write(dir.path().join("other.pem"), other).unwrap();
    let server = Server::start_tls(vec![Reply::json(200, &body())], tls).await;
    let mut config = config(&format!("https://127.0.0.1:{}", server.port));
    config.ca_file = Some("ca.pem".into());
    let connector = ApiParticulier::open(&config, dir.path()).unwrap();
    assert_eq!(codes(&connector.fetch(asked(&["valeur"]).fetch()).await.unwrap()), [OutcomeCode::Found]);

    config.ca_file = Some("other.pem".into());
    let connector = ApiParticulier::open(&config, dir.path()).unwrap();
    let fault = connector.fetch(asked(&["valeur"]).fetch()).await.unwrap_err();
    assert!(fault.to_string().contains("certificate is not trusted"), "{fault}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_ca_file_that_holds_no_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.pem"), "nothing").unwrap();
    for (name, problem) in [("empty.pem", "holds no certificates in PEM"), ("absent.pem", "cannot be opened")] {
        let mut config = config("https://source.example");
        config.ca_file = Some(name.into());
        let text = ApiParticulier::open(&config, dir.path()).unwrap_err().to_string();
        assert!(text.starts_with("ca_file: ") && text.contains(name) && text.contains(problem), "{text}");
    }
}

#[tokio::test]
async fn a_source_that_speaks_http_2_is_asked_in_it_and_no_log_names_the_person() {
    let (logs, _capture) = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let (pem, tls) = authority(b"h2");
    std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&format!("https://{}", listener.local_addr().unwrap()));
    config.ca_file = Some("ca.pem".into());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TokioIo::new(tls.accept(stream).await.unwrap());
        let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
            assert_eq!(request.version(), Version::HTTP_2);
            assert!(request.uri().query().unwrap().contains("nomNaissance=Lef%C3%A8vre"));
            Response::builder().header("content-type", "application/json").body(body().to_string())
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
    });
    let connector = ApiParticulier::open(&config, dir.path()).unwrap();
    // One connection serves both: the listener accepts no other.
    for _ in 0..2 {
        assert_eq!(codes(&connector.fetch(asked(&["valeur"]).fetch()).await.unwrap()), [OutcomeCode::Found]);
    }
    let logs = logs.text();
    assert!(logs.contains("h2::"), "the library's own TRACE is captured");
    for secret in ["Lef", "G%C3%A9r", "Naissance", &format!("Bearer {TOKEN}")] {
        assert!(!logs.contains(secret), "{secret}");
    }
}
