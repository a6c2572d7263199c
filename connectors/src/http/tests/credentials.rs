//! As whom the source is asked: each kind of credentials, renewed where it can be, read again when it changes.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

fn with_auth(base_url: &str, auth: Value, dir: &Path) -> HttpConnector {
    HttpConnector::open(&parse(with(&config(base_url, dataset()), "auth", auth)), dir).unwrap()
}

#[tokio::test]
async fn each_kind_of_credentials_goes_into_its_header() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "secret", "s3cret\n");
    secret(dir.path(), "password", "mot de passe é\n");
    for (auth, name, value) in [
        (json!({"type": "bearer", "token_file": "secret"}), "authorization", "Bearer s3cret"),
        (json!({"type": "api-key", "header": "X-Api-Key", "key_file": "secret"}), "x-api-key", "s3cret"),
        (
            json!({"type": "basic", "user": "Aladdin", "password_file": "password"}),
            "authorization",
            "Basic QWxhZGRpbjptb3QgZGUgcGFzc2Ugw6k=",
        ),
    ] {
        with_auth(&server.url(), auth, dir.path()).fetch(asked().fetch()).await.unwrap();
        assert_eq!(header(server.requests().last().unwrap(), name), value);
    }
}

#[tokio::test]
async fn a_secret_that_others_may_read_or_that_is_not_there_is_refused_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("open"), "s3cret").unwrap();
    std::fs::set_permissions(dir.path().join("open"), Permissions::from_mode(0o644)).unwrap();
    secret(dir.path(), "empty", "");
    for (file, problem) in [("open", "chmod 600"), ("empty", "one token"), ("absent", "cannot be opened")] {
        let auth = json!({"type": "bearer", "token_file": file});
        let config = with(&config("https://source.example", dataset()), "auth", auth);
        let text = HttpConnector::open(&parse(config), dir.path()).unwrap_err().to_string();
        assert!(text.starts_with("auth.token_file: ") && text.contains(problem) && !text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn a_secret_that_changes_is_read_again() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "token", "one");
    let connector = with_auth(&server.url(), json!({"type": "bearer", "token_file": "token"}), dir.path());
    connector.fetch(asked().fetch()).await.unwrap();
    secret(dir.path(), "token", "second");
    let started = std::time::Instant::now();
    loop {
        connector.fetch(asked().fetch()).await.unwrap();
        if header(server.requests().last().unwrap(), "authorization") == "Bearer second" {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn token(value: &str, expires_in: Value) -> Reply {
    Reply::json(200, &json!({"access_token": value, "token_type": "Bearer", "expires_in": expires_in}))
}

fn oauth2(source: &Server, issuer: &Server, dir: &Path) -> HttpConnector {
    secret(dir, "secret", "se/cret+");
    let auth = json!({"type": "oauth2", "token_url": format!("{}/token", issuer.url()), "client_id": "uné",
        "client_secret_file": "secret", "scope": "quotient classe"});
    with_auth(&source.url(), auth, dir)
}

#[tokio::test]
async fn an_oauth2_token_is_asked_for_once_and_used_until_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let source = Server::start(vec![Reply::json(200, &body())]).await;
    let issuer = Server::start(vec![token("lasting", json!(3600))]).await;
    let connector = oauth2(&source, &issuer, dir.path());
    let asked = asked();
    let answers = futures_util::future::join_all((0..8).map(|_| connector.fetch(asked.fetch()))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(source.requests().iter().all(|request| header(request, "authorization") == "Bearer lasting"));
    let [request] = issuer.requests().try_into().unwrap();
    assert!(request.starts_with("POST /token HTTP/1.1"), "{request}");
    assert!(request.ends_with("\r\n\r\ngrant_type=client_credentials&scope=quotient%20classe"), "{request}");
    // un%C3%A9:se%2Fcret%2B, encoded as RFC 6749 2.3.1 says.
    assert_eq!(header(&request, "authorization"), "Basic dW4lQzMlQTk6c2UlMkZjcmV0JTJC");

    let issuer = Server::start(vec![token("first", json!(0)), token("second", json!(0))]).await;
    let connector = oauth2(&source, &issuer, dir.path());
    for expected in ["Bearer first", "Bearer second"] {
        connector.fetch(asked.fetch()).await.unwrap();
        assert_eq!(header(source.requests().last().unwrap(), "authorization"), expected);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Reply::json(401, &json!({}));
    let source = Server::start(vec![refused.clone(), Reply::json(200, &body())]).await;
    let issuer = Server::start(vec![token("old", json!(3600)), token("new", json!(null))]).await;
    let connector = oauth2(&source, &issuer, dir.path());
    assert_eq!(codes(&connector.fetch(asked().fetch()).await.unwrap()), [OutcomeCode::Found; 2]);
    let used: Vec<_> = source.requests().iter().map(|r| header(r, "authorization").to_owned()).collect();
    assert_eq!(used, ["Bearer old", "Bearer new"]);

    let source = Server::start(vec![refused]).await;
    let connector = oauth2(&source, &issuer, dir.path());
    assert_eq!(connector.fetch(asked().fetch()).await.unwrap_err().code(), "not_authorised");
    assert_eq!(source.requests().len(), 2);
}

#[tokio::test]
async fn a_token_endpoint_that_gives_none_is_told_by_its_fault() {
    let dir = tempfile::tempdir().unwrap();
    let source = Server::start(vec![Reply::json(200, &body())]).await;
    for (reply, code) in [
        (Reply::json(401, &json!({"error": "invalid_client"})), "not_authorised"),
        (Reply::json(400, &json!({"error": "invalid_scope"})), "not_authorised"),
        (Reply::json(429, &json!({})), "rate_limited"),
        (Reply::json(500, &json!({})), "down"),
        (Reply::json(302, &json!({})), "down"),
        (Reply::Hangup, "down"),
        (Reply::json(200, &json!({"token": "x"})), "untrusted"),
        (Reply::json(200, &json!({"access_token": "x", "token_type": "mac"})), "untrusted"),
        (Reply::json(200, &json!({"access_token": "a\r\nb", "token_type": "bearer"})), "not_authorised"),
    ] {
        let issuer = Server::start(vec![reply.clone()]).await;
        let fault = oauth2(&source, &issuer, dir.path()).fetch(asked().fetch()).await.unwrap_err();
        assert_eq!(fault.code(), code, "{reply:?}");
    }
    assert!(source.requests().is_empty());
}

/// An authority, a server under it that wants a certificate of it, and a certificate with its key for a client, PEM.
fn mutual() -> (String, TlsAcceptor, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let client_key = KeyPair::generate().unwrap();
    let client = CertificateParams::new(["unefois".to_owned()]).unwrap().signed_by(&client_key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (ca.pem(), TlsAcceptor::from(Arc::new(config)), format!("{}{}", client.pem(), client_key.serialize_pem()))
}

#[tokio::test]
async fn a_source_that_wants_a_certificate_gets_the_brokers() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, tls, identity) = mutual();
    let (_, _, stranger) = mutual();
    std::fs::write(dir.path().join("ca.pem"), ca).unwrap();
    secret(dir.path(), "identity.pem", &stranger);
    let server = Server::start_tls(vec![Reply::json(200, &body())], tls).await;
    let mut config =
        with(&config(&format!("https://127.0.0.1:{}", server.port), dataset()), "ca_file", json!("ca.pem"));
    let without = HttpConnector::open(&parse(config.clone()), dir.path()).unwrap();
    assert_eq!(without.fetch(asked().fetch()).await.unwrap_err().code(), "down");

    config["client_identity_file"] = json!("identity.pem");
    let connector = HttpConnector::open(&parse(config.clone()), dir.path()).unwrap();
    assert_eq!(connector.fetch(asked().fetch()).await.unwrap_err().code(), "down");
    // The right one is put there while the broker runs.
    secret(dir.path(), "identity.pem", &identity);
    let started = std::time::Instant::now();
    while connector.fetch(asked().fetch()).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.requests().len(), 1);

    secret(dir.path(), "identity.pem", "no PEM");
    let text = HttpConnector::open(&parse(config), dir.path()).unwrap_err().to_string();
    assert!(text.starts_with("client_identity_file: ") && text.contains("certificate chain"), "{text}");
}
