//! A scripted PostgreSQL server without a database.

mod answer;
mod gate;
mod login;
mod record;
mod session;
mod setup;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

pub use answer::{Ask, Step};
pub use gate::Gate;
pub use login::{Login, Newer, md5_secret, quick_scram_secret, scram_secret};
pub use record::Connection;
pub use session::Chunks;
pub use setup::FakeServerSetup;

use crate::{
    address::{Address, Socket},
    eventually::{eventually, eventually_async},
    fake_server::record::Hall,
    message::CancelKey,
    scratch::Scratch,
};

/// A server that answers as the test wants, and remembers what it was asked.
///
/// Without a script of your own it knows these queries:
/// `SELECT text` (a row with that text, `$1` as bound), `BEGIN`, `COMMIT`, `ROLLBACK`,
/// `SET name = value` and `SELECT pg_catalog.set_config('name','value',false)` (told by
/// ParameterStatus if it was configured), `HOLD gate` (answers when
/// the test opens that gate, or fails with 57014 when cancelled), `FAIL code text`,
/// `NOTICE text`, `STREAM rows bytes`, `COPY t FROM STDIN`, `COPY t TO STDOUT rows bytes`,
/// `DIE`, `DIE ABRUPTLY`; the tag of anything else is the query itself.
pub struct FakeServer {
    hall: Arc<Hall>,
    port: u16,
    stop_listening: watch::Sender<bool>,
    doorman: JoinHandle<()>,
    scratch: Option<Scratch>,
}

impl FakeServer {
    /// A server to be configured.
    pub fn setup() -> FakeServerSetup {
        FakeServerSetup::default()
    }

    /// A server that trusts everybody.
    pub async fn start() -> Self {
        Self::setup().start().await
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its TCP address.
    pub fn address(&self) -> Address {
        Address::local(self.port)
    }

    /// The directory of its unix socket, if one was asked for.
    pub fn socket_dir(&self) -> &Path {
        self.scratch
            .as_ref()
            .map(Scratch::path)
            .expect("set up with a unix socket")
    }

    /// A connection string for a pooler's `[databases]`.
    pub fn conn_info(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={database}", self.port)
    }

    /// Sessions that are logged in now.
    pub fn logged_in(&self) -> usize {
        self.hall.logged_in()
    }

    /// The most sessions that were ever logged in at a time.
    pub fn logged_in_max(&self) -> usize {
        self.hall.logged_in_max()
    }

    /// Waits until so many sessions are logged in.
    pub async fn wait_for_logged_in(&self, count: usize) {
        eventually(&format!("{count} sessions on the fake server"), || {
            self.logged_in() == count
        })
        .await;
    }

    /// All connections that ever asked for a session, in order of arrival.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.hall.connections()
    }

    /// The connection of that place in the order of arrival, once it is there.
    pub async fn connection(&self, index: usize) -> Arc<Connection> {
        let what = format!("connection {index} to the fake server");
        eventually(&what, || self.connections().len() > index).await;
        self.connections()[index].clone()
    }

    /// The keys of all cancel requests so far.
    pub fn cancels(&self) -> Vec<CancelKey> {
        self.hall.cancels()
    }

    /// The gate of this name, at which `HOLD name` waits.
    pub fn gate(&self, name: &str) -> Gate {
        self.hall.gate(name)
    }

    /// Treats later logins like this.
    pub fn set_login(&self, login: Login) {
        self.hall.set_login(login);
    }

    /// Refuses new connections from now on; those that stand stay.
    pub async fn stop_listening(&self) {
        self.stop_listening.send_replace(true);
        let address = self.address();
        eventually_async("the fake server's listener to close", async || {
            Socket::connect(&address).await.is_err()
        })
        .await;
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.doorman.abort();
    }
}

/// Lets clients in until told to stop, and stays with those who are in.
async fn keep_door(
    tcp: TcpListener,
    unix: Option<UnixListener>,
    hall: Arc<Hall>,
    mut stop: watch::Receiver<bool>,
) {
    let mut sessions = JoinSet::new();
    loop {
        let socket = tokio::select! {
            accepted = tcp.accept() => accepted.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }),
            accepted = accept_unix(unix.as_ref()) => accepted,
            _ = stop.wait_for(|&stop| stop) => break,
            Some(_) = sessions.join_next() => continue,
        };
        match socket {
            Ok(socket) => {
                sessions.spawn(session::run(socket, hall.clone()));
            }
            // Out of descriptors, or a client that left before we looked.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    drop((tcp, unix));
    while sessions.join_next().await.is_some() {}
}

async fn accept_unix(listener: Option<&UnixListener>) -> std::io::Result<Socket> {
    match listener {
        Some(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        None => std::future::pending().await,
    }
}
