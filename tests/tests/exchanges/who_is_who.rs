//! Who may connect, who may call, and until when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::{Code, Status};
use unefois::client::{ClientError, Profile};
use unefois::pki::{DevelopmentCa, Issued, Validity};
use unefois_consent::registry::{EnrolledKey, Role};
use unefois_proto::v1::{self, AttributeStatus};
use unefois_tests::ask::*;
use unefois_tests::sandbox::{FIRST_ENTRIES, Sandbox};

/// Of what the client says where the reason of a refusal was lost.
const LOST: &str = "closed without a word";

/// The refusal that a client sees whose certificate the handshake does not accept. Its reason may be lost when the connection
/// ends while the client still writes; then it asks again.
async fn refused_at_the_handshake(profile: &Profile) -> String {
    for _ in 0..20 {
        let text = refused_once(profile).await;
        if !text.contains(LOST) {
            return text;
        }
    }
    panic!("the reason of the refusal was lost twenty times");
}

/// That refusal: at once, or at its first call.
async fn refused_once(profile: &Profile) -> String {
    match profile.connect().await {
        Err(ClientError::Connect(text)) => text,
        Err(ClientError::Profile(text)) => panic!("{text}"),
        Ok(client) => {
            let status = exchange(&client, canteen("MARCHAND")).await.unwrap_err();
            let text = unefois::client::explain_transport(&format!("{status:?}"), client.endpoint());
            assert!(status.code() == Code::Unknown || text.contains(LOST), "{status:?}");
            text
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_an_expired_one_and_none_are_refused_at_the_handshake() {
    let sandbox = Sandbox::start().await;
    let stranger = DevelopmentCa::create("Another CA").unwrap().issue_client("x", Validity::Days(1)).unwrap();
    let text = refused_at_the_handshake(&sandbox.profile_of("stranger", &stranger)).await;
    assert!(text.contains("CA of your certificate"), "{text}");
    let expired = sandbox.folder.ca.issue_client("x", Validity::Ended).unwrap();
    let text = refused_at_the_handshake(&sandbox.profile_of("expired", &expired)).await;
    assert!(text.contains("has expired"), "{text}");
    assert_eq!(sandbox.source.asked(), 0);
    sandbox.finish().await;
}

/// A bare TLS connection to the broker.
async fn connect(
    sandbox: &Sandbox,
    version: &'static rustls::SupportedProtocolVersion,
    certificate: Option<&Issued>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sandbox.folder.ca.certificate().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some(issued) => {
            let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(issued.private_key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(sandbox.broker().address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), stream).await
}

#[tokio::test]
async fn a_client_without_a_certificate_and_one_that_speaks_tls_1_2_get_no_connection() {
    use rustls::version::{TLS12, TLS13};
    let sandbox = Sandbox::start().await;
    for (version, certificate, connects) in [
        (&TLS13, Some(sandbox.issued("ville")), true),
        (&TLS12, Some(sandbox.issued("ville")), false),
        (&TLS13, None, false),
    ] {
        let outcome = match connect(&sandbox, version, certificate).await {
            Err(_) => false,
            // TLS 1.3 tells the client of a missing certificate when it first reads.
            Ok(mut stream) => {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
                matches!(stream.read(&mut [0; 64]).await, Ok(n) if n > 0)
            }
        };
        assert_eq!(outcome, connects, "{version:?}, certificate {}", certificate.is_some());
    }
    sandbox.finish().await;
}

#[tokio::test]
async fn a_revoked_certificate_stops_new_and_open_connections_without_a_restart() {
    let sandbox = Sandbox::start().await;
    let (town_hall, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    exchange(&town_hall, canteen("MARCHAND")).await.unwrap();
    sandbox.revoke(&[sandbox.issued("ville")]);
    // The list is read again within its interval.
    let mut outcome = exchange(&town_hall, canteen("MARCHAND")).await;
    for _ in 0..500 {
        if outcome.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        outcome = exchange(&town_hall, canteen("MARCHAND")).await;
    }
    assert_refused(outcome, "NOT_ALLOWED");
    let text = refused_at_the_handshake(&sandbox.profile("ville")).await;
    assert!(text.contains("was revoked"), "{text}");
    assert_refused(exchange(&department, allowance("MARCHAND", None)).await, "CONSENT_MISSING");
    sandbox.finish().await;
}

#[tokio::test]
async fn a_certificate_revoked_while_the_source_is_asked_gets_no_data() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.hold();
    let asking = tokio::spawn(async move { exchange(&town_hall, canteen("MARCHAND")).await.unwrap() });
    sandbox.source.was_asked(1).await;
    sandbox.revoke(&[sandbox.issued("ville")]);
    // In force when a new connection is refused.
    for _ in 0..500 {
        if sandbox.profile("ville").connect().await.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    sandbox.source.release();
    let answer = asking.await.unwrap();
    assert_eq!(only_status(&answer), AttributeStatus::Withheld);
    assert_eq!(answer.withheld_reasons, ["CERTIFICATE_ENDED"]);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_certificate_that_ends_during_a_connection_ends_its_calls() {
    let sandbox = Sandbox::start().await;
    let brief = sandbox.folder.ca.issue_client("brief", Validity::Seconds(2)).unwrap();
    let key = EnrolledKey { fingerprint: brief.fingerprint, roles: [Role::Exchange].into(), label: String::new() };
    sandbox
        .change_registry(|file| {
            file.participants.iter_mut().find(|p| p.siret.as_str() == unefois::init::TOWN_HALL).unwrap().keys.push(key)
        })
        .await;
    let client = sandbox.profile_of("brief", &brief).connect().await.unwrap();
    exchange(&client, canteen("MARCHAND")).await.unwrap();
    for _ in 0..500 {
        if exchange(&client, canteen("MARCHAND")).await.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_refused(exchange(&client, canteen("MARCHAND")).await, "NOT_ALLOWED");
    sandbox.finish().await;
}

#[tokio::test]
async fn keys_rotate_without_a_gap_and_a_removed_key_stops_at_once() {
    let sandbox = Sandbox::start().await;
    let old = sandbox.client("ville").await;
    let new = sandbox.folder.ca.issue_client("ville-2027", Validity::Days(1)).unwrap();
    let connected = sandbox.profile_of("ville-2027", &new).connect().await.unwrap();
    assert_refused(exchange(&connected, canteen("MARCHAND")).await, "NOT_ALLOWED");
    let key = EnrolledKey { fingerprint: new.fingerprint, roles: [Role::Exchange].into(), label: "2027".to_owned() };
    sandbox
        .change_registry(|file| {
            file.participants.iter_mut().find(|p| p.siret.as_str() == unefois::init::TOWN_HALL).unwrap().keys.push(key)
        })
        .await;
    exchange(&connected, canteen("MARCHAND")).await.unwrap();
    exchange(&old, canteen("MARCHAND")).await.unwrap();
    let ville = sandbox.issued("ville").fingerprint;
    sandbox
        .change_registry(|file| file.participants.iter_mut().for_each(|p| p.keys.retain(|k| k.fingerprint != ville)))
        .await;
    assert_refused(exchange(&old, canteen("MARCHAND")).await, "NOT_ALLOWED");
    exchange(&connected, canteen("MARCHAND")).await.unwrap();
    sandbox.finish().await;
}

/// Invariant 3 at its edge: the gate let the call in, and the key was removed before its step ran.
#[tokio::test]
async fn a_key_removed_between_the_gate_and_the_step_does_and_reads_nothing() {
    let sandbox = Sandbox::start().await;
    let engine = Arc::clone(sandbox.broker().engine());
    let (ville, dpo) = (sandbox.caller("ville", Role::Exchange), sandbox.caller("dpo", Role::Audit));
    let removed = [sandbox.issued("ville").fingerprint, sandbox.issued("dpo").fingerprint];
    sandbox
        .change_registry(|file| {
            file.participants.iter_mut().for_each(|p| p.keys.retain(|k| !removed.contains(&k.fingerprint)));
        })
        .await;
    let before = engine.head().size;
    let soon = Instant::now() + Duration::from_secs(10);
    let person = unefois_proto::common::identity("subject", Some(&person("MARCHAND"))).unwrap();
    let objected = engine.record_objection(ville.clone(), &person, None, soon).await.map(drop);
    let listed = engine.consents(ville.clone(), &person, None, 10, soon).await.map(drop);
    let read = engine.entries(&dpo, 0, 10, soon).await.map(drop);
    let receipt = engine.receipt(&dpo, Role::Audit, 0, soon).await.map(drop);
    for (what, outcome) in [("objection", objected), ("list", listed), ("entries", read), ("receipt", receipt)] {
        assert_eq!(outcome.map_err(|error| error.code()), Err("NOT_ALLOWED"), "{what}");
    }
    assert_eq!(engine.head().size, before, "a removed key left an entry");
    drop(engine);
    sandbox.finish().await;
}

#[tokio::test]
async fn each_role_opens_its_own_rpcs_and_no_others() {
    let sandbox = Sandbox::start().await;
    let code =
        |outcome: Result<(), Status>| outcome.map_or_else(|status| Some((status.code(), reason(&status))), |()| None);
    let refused = Some((Code::PermissionDenied, "NOT_ALLOWED".to_owned()));
    for (name, exchanges, audits, changes) in
        [("ville", true, false, false), ("dpo", false, true, false), ("operateur", false, false, true)]
    {
        let client = sandbox.client(name).await;
        let outcomes = [
            (exchanges, code(exchange(&client, canteen("MARCHAND")).await.map(drop))),
            (
                exchanges,
                code(
                    client
                        .consent()
                        .list_consents(within(v1::ListConsentsRequest {
                            subject: Some(person("MARCHAND")),
                            page_size: 0,
                            page_token: String::new(),
                        }))
                        .await
                        .map(drop),
                ),
            ),
            (
                audits,
                code(
                    client
                        .audit()
                        .list_entries(within(v1::ListEntriesRequest { start: 0, page_size: 1 }))
                        .await
                        .map(drop),
                ),
            ),
            (changes, code(client.registry().get_registry(within(v1::GetRegistryRequest {})).await.map(drop))),
            (true, code(client.registry().list_datasets(within(v1::ListDatasetsRequest {})).await.map(drop))),
            (true, code(client.audit().get_checkpoint(within(v1::GetCheckpointRequest {})).await.map(drop))),
        ];
        for (at, (allowed, outcome)) in outcomes.into_iter().enumerate() {
            assert_eq!(outcome, if allowed { None } else { refused.clone() }, "{name}, call {at}");
        }
    }
    sandbox.finish().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_enrolled_may_ask_for_health_and_nothing_else() {
    let sandbox = Sandbox::start().await;
    let unknown = sandbox.folder.ca.issue_client("unknown", Validity::Days(1)).unwrap();
    let client = sandbox.profile_of("unknown", &unknown).connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(client.channel());
    let request = tonic_health::pb::HealthCheckRequest { service: "unefois.v1.ExchangeService".to_owned() };
    let answer = health.check(within(request)).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    assert_refused(exchange(&client, canteen("MARCHAND")).await, "NOT_ALLOWED");
    assert_refused(client.registry().list_datasets(within(v1::ListDatasetsRequest {})).await, "NOT_ALLOWED");
    // Nothing of a stranger reaches the log.
    let report = sandbox.finish().await;
    assert_eq!(report.entries, FIRST_ENTRIES);
}

#[tokio::test]
async fn another_administrations_consents_are_as_if_they_did_not_exist() {
    let sandbox = Sandbox::start().await;
    let (town_hall, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let id = granted(&department, grant("MARCHAND")).await;
    let get = |id: &str| within(v1::GetConsentRequest { consent_id: id.to_owned() });
    let (other, none) = (
        town_hall.consent().get_consent(get(&id)).await.unwrap_err(),
        town_hall.consent().get_consent(get(&"0".repeat(32))).await.unwrap_err(),
    );
    assert_eq!((other.code(), other.message()), (Code::NotFound, none.message()));
    let withdraw = within(v1::WithdrawConsentRequest { consent_id: id.clone() });
    assert_eq!(town_hall.consent().withdraw_consent(withdraw).await.unwrap_err().code(), Code::NotFound);
    let list =
        within(v1::ListConsentsRequest { subject: Some(person("MARCHAND")), page_size: 0, page_token: String::new() });
    assert!(town_hall.consent().list_consents(list).await.unwrap().into_inner().consents.is_empty());
    assert!(department.consent().get_consent(get(&id)).await.is_ok());
    // Nor does a consent to the department let another person's data out.
    assert_refused(exchange(&department, allowance("AUTRE", Some(&id))).await, "CONSENT_MISSING");
    assert_refused(exchange(&department, allowance("AUTRE", None)).await, "CONSENT_MISSING");
    exchange(&department, allowance("MARCHAND", None)).await.unwrap();
    sandbox.finish().await;
}

/// A TLS 1.3 connection with a certificate, and nothing said on it.
async fn silent(sandbox: &Sandbox, issued: &Issued) -> TlsStream<TcpStream> {
    connect(sandbox, &rustls::version::TLS13, Some(issued)).await.unwrap()
}

#[tokio::test]
async fn a_key_cannot_take_the_places_of_others_nor_hold_one_in_silence() {
    use tokio::io::AsyncReadExt;
    let sandbox = Sandbox::start_with(Arc::new(unefois_engine::SystemClock), |loaded| {
        loaded.config.server.max_connections = 64;
        loaded.config.server.max_connections_per_key = 4;
    })
    .await;
    // Of the right CA, and enrolled for nobody.
    let stranger = sandbox.folder.ca.issue_client("stranger", Validity::Days(1)).unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(silent(&sandbox, &stranger).await);
    }
    // One more is closed, whatever it says.
    let mut more = silent(&sandbox, &stranger).await;
    let begun = std::time::Instant::now();
    let mut bytes = Vec::new();
    // Closed with or without a farewell.
    let _ = more.read_to_end(&mut bytes).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "{:?}", begun.elapsed());
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    // All strangers together have one place in eight.
    for name in ["second", "third"] {
        let another = sandbox.folder.ca.issue_client(name, Validity::Days(1)).unwrap();
        let mut closed = 0;
        for _ in 0..4 {
            let mut stream = silent(&sandbox, &another).await;
            let soon = std::time::Duration::from_millis(300);
            closed += usize::from(tokio::time::timeout(soon, stream.read_to_end(&mut bytes)).await.is_ok());
            held.push(stream);
        }
        assert_eq!(closed, if name == "second" { 0 } else { 4 }, "{name}");
    }
    exchange(&sandbox.client("ville").await, canteen("DURAND")).await.unwrap();
    // Those that stay silent are closed, and their places are free again.
    for mut stream in held {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.unwrap();
    }
    let mut again = Vec::new();
    for _ in 0..4 {
        again.push(silent(&sandbox, &stranger).await);
    }
    drop(again);
    sandbox.finish().await;
}
