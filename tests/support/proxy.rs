//! A network between a service and a server that breaks where a test says.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Where the network breaks at a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// PostgreSQL never gets it: it rolls back.
    BeforeCommit,
    /// PostgreSQL commits and answers, and the answer gets lost.
    AfterCommit,
}

/// Forwards connections to a server until told otherwise.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    switches: Arc<Switches>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Switches {
    target: String,
    next_commit: Mutex<Option<Break>>,
    broken: AtomicUsize,
    delay: Mutex<Duration>,
    /// Cancelled while nothing gets through.
    closed: Mutex<CancellationToken>,
    answers_are_held: watch::Sender<bool>,
}

impl Proxy {
    /// Stands before the server of this URL.
    pub async fn before(database_url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::on(listener, host(database_url))
    }

    fn on(listener: TcpListener, target: &str) -> Self {
        let switches = Arc::new(Switches {
            target: target.to_owned(),
            next_commit: Mutex::default(),
            broken: AtomicUsize::default(),
            delay: Mutex::default(),
            closed: Mutex::default(),
            answers_are_held: watch::Sender::default(),
        });
        let address = listener.local_addr().expect("it listens");
        let listening = tokio::spawn(listen(listener, switches.clone()));
        Self { address, switches, listening }
    }

    /// Stands before a server, at a port that its clients know.
    pub async fn at(port: u16, target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        Self::on(listener, target)
    }

    /// `host:port`, for clients.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The URL by which the server is reached through here.
    pub fn url(&self, database_url: &str) -> String {
        database_url.replace(host(database_url), &self.address.to_string())
    }

    /// Breaks the connection on which the next COMMIT comes.
    pub fn break_next_commit(&self, at: Break) {
        *lock(&self.switches.next_commit) = Some(at);
    }

    /// How many connections were broken at their COMMIT.
    pub fn broken(&self) -> usize {
        self.switches.broken.load(Ordering::Relaxed)
    }

    /// Lets everything take longer.
    pub fn delay(&self, delay: Duration) {
        *lock(&self.switches.delay) = delay;
    }

    /// Lets requests through and, while held, no answers.
    pub fn hold_answers(&self, held: bool) {
        self.switches.answers_are_held.send_replace(held);
    }

    /// Breaks all connections and lets no new one through.
    pub fn close(&self) {
        lock(&self.switches.closed).cancel();
    }

    /// Lets connections through again.
    pub fn open(&self) {
        *lock(&self.switches.closed) = CancellationToken::new();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, switches: Arc<Switches>) {
    while let Ok((client, _)) = listener.accept().await {
        let switches = switches.clone();
        let closed = lock(&switches.closed).clone();
        tokio::spawn(async move {
            tokio::select! {
                // Whatever breaks it, it is gone for both sides.
                _ = forward(client, &switches) => {}
                () = closed.cancelled() => {}
            }
        });
    }
}

async fn forward(mut client: TcpStream, switches: &Switches) -> io::Result<()> {
    let mut server = TcpStream::connect(&switches.target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = ([0; 16 * 1024], [0; 16 * 1024]);
    let mut held = switches.answers_are_held.subscribe();
    loop {
        let is_held = *held.borrow_and_update();
        tokio::select! {
            _ = held.changed() => {}
            read = client.read(&mut asked) => {
                let request = &asked[..read?];
                let broken = if is_commit(request) { lock(&switches.next_commit).take() } else { None };
                if broken != Some(Break::BeforeCommit) {
                    pass(request, &mut server, switches).await?;
                }
                if broken == Some(Break::AfterCommit) {
                    // Once it answers it has committed.
                    server.readable().await?;
                }
                if broken.is_some() {
                    switches.broken.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
            }
            read = server.read(&mut answered), if !is_held => pass(&answered[..read?], &mut client, switches).await?,
        }
    }
}

async fn pass(bytes: &[u8], to: &mut TcpStream, switches: &Switches) -> io::Result<()> {
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let delay = *lock(&switches.delay);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    to.write_all(bytes).await
}

/// Onceward's last message of a run is a text that ends so.
fn is_commit(request: &[u8]) -> bool {
    request.windows(8).any(|window| window == b"; commit" || window == b"; COMMIT")
}

/// `host:port` of a URL.
fn host(url: &str) -> &str {
    let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).expect("a URL");
    authority.rsplit('@').next().expect("a host")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
