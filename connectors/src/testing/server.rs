//! A source on 127.0.0.1 that answers raw bytes: what a real server would never send, too.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the source does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Writes these bytes and closes.
    Raw(Vec<u8>),
    /// Writes these bytes and then nothing, for ever.
    Stall(Vec<u8>),
    /// Writes a head and then a body without end.
    Flood,
    /// Closes without a word.
    Hangup,
}

impl Reply {
    /// A JSON answer.
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::with_type(status, "application/json; charset=utf-8", &body.to_string())
    }

    pub(crate) fn with_type(status: u16, content_type: &str, body: &str) -> Self {
        Self::with_header(status, &format!("content-type: {content_type}"), body)
    }

    /// An answer with the API's own 429 or that of a provider, by `code`, and `Retry-After`.
    pub(crate) fn slow_down(code: &str, retry_after: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "title": "Trop de requêtes"}]}).to_string();
        Self::with_header(429, &format!("content-type: application/json\r\nretry-after: {retry_after}"), &body)
    }

    fn with_header(status: u16, header: &str, body: &str) -> Self {
        let len = body.len();
        Self::Raw(
            format!(
                "HTTP/1.1 {status} X\r\n{header}\r\ncontent-length: {len}\r\n\
                 x-request-id: source-ref-1\r\nconnection: close\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    }

    /// An error in the API's form.
    pub(crate) fn error(status: u16, code: &str, title: &str) -> Self {
        Self::json(
            status,
            &serde_json::json!({"errors": [{"code": code, "title": title, "detail": "", "source": null}]}),
        )
    }
}

/// A running source. It answers with its replies in turn, and with the last one from then on.
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        Self::run(replies, None).await
    }

    pub(crate) async fn start_tls(replies: Vec<Reply>, tls: TlsAcceptor) -> Self {
        Self::run(replies, Some(tls)).await
    }

    async fn run(replies: Vec<Reply>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (replies, seen, tls) = (replies.clone(), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &replies, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &replies, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The heads of the requests so far, each with its body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, replies: &[Reply], seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let announced = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = announced.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    head.extend(body);
    let turn = {
        let mut seen = seen.lock().unwrap();
        seen.push(String::from_utf8(head).unwrap());
        seen.len() - 1
    };
    // The client may have gone: that is its right.
    match &replies[turn.min(replies.len() - 1)] {
        Reply::Raw(bytes) => drop(stream.write_all(bytes).await),
        Reply::Stall(bytes) => {
            drop(stream.write_all(bytes).await);
            drop(stream.flush().await);
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        Reply::Flood => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"data\":{\"x\":\"";
            drop(stream.write_all(head).await);
            while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
        }
        Reply::Hangup => {}
    }
    drop(stream.shutdown().await);
}
