//! A schema registry that does what a real one cannot be asked to do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

#[derive(Clone)]
pub(crate) struct Stub {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The answers to paths, as JSON.
    answers: HashMap<String, String>,
    /// Those that are none.
    refusals: HashMap<String, &'static str>,
    /// In place of any.
    trouble: Option<Trouble>,
    asked: Vec<String>,
    /// The `authorization` of each question.
    askers: Vec<String>,
    /// How often somebody came whom it did not let ask.
    turned_away: usize,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// It answers so, whatever is asked.
    Says(&'static str),
    /// It takes the question and never answers.
    IsSilent,
}

impl Stub {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stub = Self { url, state: Arc::default() };
        let serving = stub.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        stub
    }

    /// The same behind TLS, by the name of `localhost`.
    pub(crate) async fn start_tls(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let stub = Self { url, state: Arc::default() };
        let (serving, acceptor) = (stub.clone(), TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (stub, accepting) = (serving.clone(), acceptor.accept(stream).into_fallible());
                tokio::spawn(async move {
                    match accepting.await {
                        Ok(stream) => stub.serve(stream).await,
                        Err((_, mut stream)) => {
                            stub.state.lock().unwrap().turned_away += 1;
                            // With unread bytes the connection would be reset, and why would be lost.
                            stream.read_to_end(&mut Vec::new()).await.unwrap_or_default();
                        }
                    }
                });
            }
        });
        stub
    }

    /// How often somebody came whom it did not let ask.
    pub(crate) fn turned_away(&self) -> usize {
        self.state.lock().unwrap().turned_away
    }

    /// Has this schema from now on.
    pub(crate) fn has(&self, id: u32, schema: &str) {
        let body = serde_json::json!({ "schema": schema }).to_string();
        self.answers(&format!("/schemas/ids/{id}?deleted=true"), body);
    }

    pub(crate) fn answers(&self, path: &str, body: String) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), body);
    }

    /// Says this to a path, with its status line.
    pub(crate) fn refuses(&self, path: &str, answer: &'static str) {
        self.state.lock().unwrap().refusals.insert(path.to_owned(), answer);
    }

    pub(crate) fn is_in(&self, trouble: impl Into<Option<Trouble>>) {
        self.state.lock().unwrap().trouble = trouble.into();
    }

    /// How often it was asked for this schema.
    pub(crate) fn asked_for(&self, id: u32) -> usize {
        let path = format!("/schemas/ids/{id}?deleted=true");
        self.state.lock().unwrap().asked.iter().filter(|asked| **asked == path).count()
    }

    /// How often it was asked for anything.
    pub(crate) fn asked(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }

    /// As whom it was asked last.
    pub(crate) fn asked_by(&self) -> Option<String> {
        self.state.lock().unwrap().askers.last().cloned()
    }

    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return,
            }
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.split(' ').nth(1).unwrap().to_owned();
        let length = request
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        // What is not read would break the connection.
        stream.read_exact(&mut vec![0; length.unwrap_or(0)]).await.unwrap_or_default();
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(path.clone());
            let header = |line: &str| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
            };
            state.askers.push(request.lines().find_map(header).unwrap_or_default());
            match (state.trouble, state.answers.get(&path)) {
                (Some(Trouble::Says(answer)), _) => Some(answer.to_owned()),
                (Some(Trouble::IsSilent), _) => None,
                _ if state.refusals.contains_key(&path) => Some(state.refusals[&path].to_owned()),
                (None, Some(body)) => Some(format!("200 OK\r\ncontent-type: application/json\r\n\r\n{body}")),
                (None, None) => Some(
                    "404 Not Found\r\n\r\n{\"error_code\":40403,\"message\":\"Schema not found\"}".to_owned(),
                ),
            }
        };
        match answer {
            Some(answer) => {
                let answer = format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nconnection: close\r\n", 1));
                // The client may be gone.
                stream.write_all(answer.as_bytes()).await.unwrap_or_default();
                stream.shutdown().await.unwrap_or_default();
            }
            None => std::future::pending().await,
        }
    }
}
