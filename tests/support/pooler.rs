//! A pooler before PostgreSQL that gives each transaction the connection that was given back last, as
//! PgBouncer does with `pool_mode = transaction`.

use std::io::Result;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Idle = Arc<Mutex<Vec<TcpStream>>>;

/// Starts one before the server of this URL. Gives the URL through it.
pub async fn transaction_pooler(url: &str) -> String {
    let (user, place) = url.split_once('@').expect("a user and a host");
    let (server, database) = place.split_once('/').expect("a host and a database");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (idle, server) = (Idle::default(), server.to_owned());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (idle, server) = (idle.clone(), server.clone());
            // A connection that breaks shows at its client.
            tokio::spawn(async move { serve(client, &server, &idle).await.ok() });
        }
    });
    format!("{user}@{address}/{database}?sslmode=disable")
}

async fn serve(mut client: TcpStream, server: &str, idle: &Idle) -> Result<()> {
    let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    // The first connection is opened for this client, and logged in by it.
    let mut own = Some(TcpStream::connect(server).await?);
    let mut request = vec![0; 65536];
    loop {
        let len = client.read(&mut request).await?;
        if len == 0 || request[0] == b'X' {
            return Ok(());
        }
        let taken = own.take().or_else(|| lock().pop());
        let mut server = taken.expect("as many as there are clients");
        server.write_all(&request[..len]).await?;
        if answer(&mut server, &mut client).await? {
            lock().push(server);
        } else {
            own = Some(server);
        }
    }
}

/// Hands on what the server says until it is the client's turn. Gives whether no transaction is open.
async fn answer(server: &mut TcpStream, client: &mut TcpStream) -> Result<bool> {
    loop {
        let mut head = [0; 5];
        server.read_exact(&mut head).await?;
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; len - 4];
        server.read_exact(&mut body).await?;
        client.write_all(&[&head[..], &body].concat()).await?;
        match head[0] {
            b'Z' => return Ok(body[0] == b'I'),
            // A password, or a step of SCRAM, is asked for.
            b'R' if matches!(body[3], 3 | 5 | 10 | 11) => return Ok(false),
            _ => {}
        }
    }
}
