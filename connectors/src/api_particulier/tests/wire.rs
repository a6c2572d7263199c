//! Sources that break HTTP, stall, flood or send elsewhere; and what is told of them.

use std::sync::Arc;

use super::*;
use crate::Guarded;
use crate::testing::logs::Logs;

fn head(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{rest}").into_bytes()
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_source_that_is_down() {
    for reply in [
        Reply::Hangup,
        Reply::Raw(head("content-length: 1000\r\n\r\n{\"data\":{")),
        Reply::Raw(head("transfer-encoding: chunked\r\n\r\n5\r\n{\"dat")),
        Reply::Raw(b"HTTP/1.1 200".to_vec()),
        Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
    ] {
        let fault = answer_to(reply.clone(), &["valeur"]).await.unwrap_err();
        assert_eq!(fault.code(), "down", "{reply:?}");
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_is_down() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let fault = connector(&url).fetch(asked(&["valeur"]).fetch()).await.unwrap_err();
    assert_eq!(fault, SourceFault::Down("no connection"));
}

#[tokio::test]
async fn a_body_without_end_or_of_a_size_beyond_the_limit_is_not_read() {
    let announced = Reply::Raw(head("content-length: 52428800\r\n\r\n{"));
    let mut whole = head("content-length: 52428800\r\n\r\n");
    whole.resize(whole.len() + 50 * 1024 * 1024, b' ');
    for reply in [Reply::Flood, announced, Reply::Raw(whole)] {
        let fault = answer_to(reply, &["valeur"]).await.unwrap_err();
        assert_eq!(fault, SourceFault::Untrusted("the answer is too large"));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(vec![Reply::json(200, &body())]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("HTTP/1.1 {status} X\r\nlocation: {}/v3\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
        let fault = answer_to(Reply::Raw(location.into_bytes()), &["valeur"]).await.unwrap_err();
        assert_eq!(fault, SourceFault::Untrusted("the source redirects"), "{status}");
    }
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_source_that_stalls_is_left_at_the_deadline() {
    for reply in [
        Reply::Stall(Vec::new()),
        Reply::Stall(head("")),
        Reply::Stall(head("content-length: 100\r\n\r\n{\"data\"")),
        Reply::Stall(head("transfer-encoding: chunked\r\n\r\n5\r\n{\"dat")),
    ] {
        let server = Server::start(vec![reply]).await;
        let guard = Guarded::new("cnaf".parse().unwrap(), Arc::new(connector(&server.url())), Limits::default());
        let mut asked = asked(&["valeur"]);
        asked.timeout = Duration::from_millis(200);
        let started = std::time::Instant::now();
        assert_eq!(codes(&guard.ask(asked.fetch()).await), [OutcomeCode::SourceDown]);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_reference_of_another_form_is_none() {
    for (value, kept) in [("abc-1", true), ("a b", false), ("", false), (&*"x".repeat(129), false)] {
        let body = body().to_string();
        let head = head(&format!("x-request-id: {value}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        let answer = answer_to(Reply::Raw(head), &["valeur"]).await.unwrap();
        assert_eq!(answer.reference.is_some(), kept, "{value}");
    }
}

#[tokio::test]
async fn no_log_error_or_debug_text_names_the_person() {
    let (logs, _capture) = Logs::capture();
    let mut texts = Vec::new();
    let replies = [
        Reply::json(200, &body()),
        Reply::json(200, &json!({"data": {}})),
        Reply::json(200, &json!({"data": {"adresse": "Lefèvre"}})),
        Reply::error(422, "00366", "Lefèvre"),
        Reply::error(500, "Lefèvre", "Lefèvre"),
        Reply::Hangup,
        Reply::Raw(b"garbage Lefevre\r\n\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/?nomNaissance=Lefevre\r\n\r\n".to_vec()),
    ];
    for reply in replies {
        let server = Server::start(vec![reply]).await;
        let connector = Arc::new(connector(&server.url()));
        texts.push(format!("{connector:?}"));
        let asked = asked(&["valeur", "adresse"]).with_token("person-token");
        texts.push(format!("{:?}", asked.fetch()));
        let identity_only = Fetch { access_token: None, ..asked.fetch() };
        texts.push(format!("{:?}", connector.fetch(identity_only).await));
        let guard = Guarded::new("cnaf".parse().unwrap(), connector, Limits::default());
        texts.push(format!("{:?}", guard.ask(asked.fetch()).await));
        texts.push(format!("{:?}", guard.ask(identity_only).await));
    }
    texts.push(logs.text());
    let all = texts.join("\n");
    assert!(all.contains("a source needs the operator") && all.contains("lacks a scope"));
    // The bare word is the crate's name and in every log line: look for the header.
    for secret in ["Lef", "LEF", "Gérôme", "G%C3%A9r", "Naissance", "person-token", &format!("Bearer {TOKEN}")] {
        assert!(!all.contains(secret), "{secret}");
    }
}
