//! Sources that break HTTP, stall, flood or send elsewhere; and what is told of them.

use std::sync::Arc;

use super::*;
use crate::Guarded;
use crate::testing::logs::Logs;

fn head(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{rest}").into_bytes()
}

#[tokio::test]
async fn a_connection_that_breaks_or_is_not_there_is_a_source_that_is_down() {
    for reply in [
        Reply::Hangup,
        Reply::Raw(head("content-length: 1000\r\n\r\n{\"quotient\":")),
        Reply::Raw(head("transfer-encoding: chunked\r\n\r\n5\r\n{\"quo")),
        Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
    ] {
        assert_eq!(answer_to(reply.clone(), dataset()).await.unwrap_err().code(), "down", "{reply:?}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let fault = open(&url, dataset()).fetch(asked().fetch()).await.unwrap_err();
    assert_eq!(fault, SourceFault::Down("no connection"));
}

#[tokio::test]
async fn a_body_that_is_no_json_or_says_so_or_is_not_there_is_untrusted() {
    for reply in [
        Reply::with_type(200, "text/html", "<html>"),
        Reply::with_type(200, "text/plain", &body().to_string()),
        Reply::with_type(200, "application/json", "{\"quotient\": 7"),
        Reply::with_type(200, "application/json", ""),
        Reply::with_type(200, "application/json", &"[".repeat(1000)),
    ] {
        assert_eq!(answer_to(reply.clone(), dataset()).await.unwrap_err().code(), "untrusted", "{reply:?}");
    }
    let hal = Reply::with_type(200, "application/hal+json; charset=utf-8", &body().to_string());
    assert!(answer_to(hal, dataset()).await.is_ok());
}

#[tokio::test]
async fn a_body_without_end_or_beyond_the_limit_is_not_read() {
    for reply in [Reply::Flood, Reply::Raw(head("content-length: 52428800\r\n\r\n{"))] {
        let fault = answer_to(reply, dataset()).await.unwrap_err();
        assert_eq!(fault, SourceFault::Untrusted("the answer is too large"));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(vec![Reply::json(200, &body())]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("HTTP/1.1 {status} X\r\nlocation: {}/x\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
        let fault = answer_to(Reply::Raw(location.into_bytes()), dataset()).await.unwrap_err();
        assert_eq!(fault, SourceFault::Untrusted("the source redirects"), "{status}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_source_that_hangs_is_left_at_the_deadline() {
    for reply in [Reply::Stall(Vec::new()), Reply::Stall(head("content-length: 100\r\n\r\n{\"quotient\""))] {
        let server = Server::start(vec![reply]).await;
        let connector = Arc::new(open(&server.url(), dataset()));
        let guard = Guarded::new("mairie".parse().unwrap(), connector, Limits::default());
        let mut asked = asked();
        asked.timeout = Duration::from_millis(200);
        let started = std::time::Instant::now();
        assert_eq!(codes(&guard.ask(asked.fetch()).await), [OutcomeCode::SourceDown; 2]);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn no_log_error_or_debug_text_names_the_person_a_value_or_a_secret() {
    let (logs, _capture) = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "password", "p4ssphrase");
    let mut texts = Vec::new();
    for reply in [
        Reply::json(200, &body()),
        Reply::json(200, &json!({"quotient": "Lefèvre"})),
        Reply::json(500, &json!({"message": "Lefèvre"})),
        Reply::with_type(200, "text/plain", "Lefèvre"),
        Reply::Hangup,
        Reply::Raw(b"garbage Lefevre\r\n\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/?nom=Lefevre\r\n\r\n".to_vec()),
    ] {
        let server = Server::start(vec![reply]).await;
        let mut config = config(&server.url(), dataset());
        config["auth"] = json!({"type": "basic", "user": "unefois", "password_file": "password"});
        let connector = Arc::new(HttpConnector::open(&parse(config), dir.path()).unwrap());
        texts.push(format!("{connector:?}"));
        let asked = asked();
        texts.push(format!("{:?}", connector.fetch(asked.fetch()).await));
        let guard = Guarded::new("mairie".parse().unwrap(), connector, Limits::default());
        texts.push(format!("{:?}", guard.ask(asked.fetch()).await));
    }
    texts.push(logs.text());
    let all = texts.join("\n");
    assert!(all.contains("a source needs the operator"));
    for secret in ["Lef", "LEF", "Gérôme", "G%C3%A9r", "p4ssphrase", "dW5lZm9pczpwNHNz", "CM2", "not asked"] {
        assert!(!all.contains(secret), "{secret}");
    }
}
