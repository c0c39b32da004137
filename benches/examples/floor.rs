//! What logins take of a process that has no duties: one thread, epoll, a read and a write for each
//! step, twenty servers, SCRAM against one verifier, and no care for anything that goes wrong.
//!
//! It stands in for pgusher in the bench:
//!
//! ```sh
//! cargo build --release -p pgusher-benches --examples
//! make bench BENCH="--pgusher target/release/examples/floor --only connect-scram"
//! ```

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use auth::scram::ServerExchange;
use auth::{ChannelBinding, Nonce, Verifier};
use net::listen::ListenOptions;
use net::{Listener, stream::Parked};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use testkit::startup_packet;
use wire::authentication::{AuthRequest, SaslInitialResponse};
use wire::frame::FrameHeader;

const SERVERS: usize = 20;
const READY: &[u8] = b"Z\0\0\0\x05I";

/// What a client is to say next.
enum Due {
    Startup,
    ClientFirst,
    ClientFinal(ServerExchange),
    Query,
    /// Nothing: a server answers it.
    Nothing,
}

/// Whose a socket is.
enum End {
    Nobody,
    Client(OwnedFd, Due),
    /// And the number of the client that it works for.
    Server(OwnedFd, usize),
}

struct Floor {
    epoll: OwnedFd,
    /// By the numbers of their sockets.
    ends: Vec<End>,
    idle: Vec<usize>,
    waiting: VecDeque<(usize, Vec<u8>)>,
    verifier: Option<Verifier>,
    /// What follows a login.
    welcome: Vec<u8>,
}

fn main() -> io::Result<()> {
    let ini = std::env::args_os().next_back().map(PathBuf::from);
    let ini = std::fs::read_to_string(ini.unwrap_or_default())?;
    let words = || ini.split_ascii_whitespace();
    let database = |key: &str| words().find_map(|word| word.strip_prefix(key));
    let setting = |key: &str| {
        let line = ini.lines().find(|line| line.starts_with(key));
        line.and_then(|line| Some(line.split_once('=')?.1.trim()))
    };
    let server = format!(
        "{}:{}",
        database("host=").unwrap_or_default(),
        database("port=").unwrap_or_default()
    );
    let mut floor = Floor {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        ends: Vec::new(),
        idle: Vec::new(),
        waiting: VecDeque::new(),
        verifier: verifier(setting("auth_file").unwrap_or_default())?,
        welcome: Vec::new(),
    };
    for _ in 0..SERVERS {
        floor.welcome.clear();
        let socket = log_in(&server, &mut floor.welcome)?;
        let number = floor.watch(&socket)?;
        floor.ends[number] = End::Server(socket, 0);
        floor.idle.push(number);
    }
    let port = setting("listen_port").and_then(|port| port.parse().ok());
    floor.serve(SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        port.unwrap_or_default(),
    )))
}

/// The verifier of the user whom all clients of the bench share, if it has one.
fn verifier(users: &str) -> io::Result<Option<Verifier>> {
    let users = std::fs::read_to_string(users)?;
    let secret = users
        .lines()
        .find_map(|line| line.strip_prefix("\"bench\" \""));
    let secret = secret.and_then(|secret| secret.strip_suffix('"'));
    Ok(secret.and_then(|secret| Verifier::parse(secret.as_bytes())))
}

fn log_in(server: &str, welcome: &mut Vec<u8>) -> io::Result<OwnedFd> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    socket.write_all(&startup_packet(&[("user", "bench"), ("database", "bench")]))?;
    let mut piece = [0; 4096];
    while !welcome.ends_with(READY) {
        let count = socket.read(&mut piece)?;
        welcome.extend_from_slice(&piece[..count]);
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Floor {
    /// Has the kernel tell of what comes by a socket.
    fn watch(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        let number = usize::try_from(socket.as_raw_fd()).map_err(io::Error::other)?;
        self.ends
            .resize_with(self.ends.len().max(number + 1), || End::Nobody);
        let data = EventData::new_u64(number as u64);
        epoll::add(&self.epoll, socket, data, EventFlags::IN | EventFlags::ET)?;
        Ok(number)
    }

    fn serve(mut self, address: SocketAddr) -> io::Result<()> {
        const DOOR: u64 = u64::MAX;
        let options = ListenOptions {
            backlog: 1024,
            reuse_port: false,
            keepalive: Some(true),
        };
        let listener = Listener::tcp(address, &options)?;
        listener.set_deferred(true)?;
        let door = EventData::new_u64(DOOR);
        epoll::add(&self.epoll, &listener, door, EventFlags::IN)?;
        let mut events = Vec::with_capacity(256);
        let mut buffer = vec![0; 65_536];
        loop {
            events.clear();
            epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            )?;
            for event in &events {
                let number = match event.data.u64() {
                    DOOR => match listener.accept()?.socket {
                        Parked::Tcp(socket) => {
                            let socket = OwnedFd::from(socket);
                            let number = self.watch(&socket)?;
                            self.ends[number] = End::Client(socket, Due::Startup);
                            number
                        }
                        _ => continue,
                    },
                    number => usize::try_from(number).map_err(io::Error::other)?,
                };
                self.look(number, &mut buffer)?;
            }
        }
    }

    fn look(&mut self, number: usize, buffer: &mut [u8]) -> io::Result<()> {
        let end = std::mem::replace(&mut self.ends[number], End::Nobody);
        let (End::Client(socket, _) | End::Server(socket, _)) = &end else {
            return Ok(());
        };
        let Ok((count, _)) = recv(socket, &mut *buffer, RecvFlags::empty()) else {
            self.ends[number] = end;
            return Ok(());
        };
        let said = &buffer[..count];
        match end {
            // It is closed.
            End::Client(..) if said.is_empty() || said[0] == b'X' => {}
            End::Client(socket, due) => {
                let due = self.hear(number, &socket, due, said)?;
                self.ends[number] = End::Client(socket, due);
            }
            End::Server(socket, client) => self.answered(number, socket, client, said)?,
            End::Nobody => {}
        }
        Ok(())
    }

    /// Does what a client asks for, and returns what it is to say next.
    fn hear(&mut self, number: usize, client: &OwnedFd, due: Due, said: &[u8]) -> io::Result<Due> {
        let body = said.get(FrameHeader::LEN..).unwrap_or_default();
        let mut out = Vec::with_capacity(512);
        let due = match (due, &self.verifier) {
            (Due::Startup, Some(_)) => {
                let mechanisms = vec!["SCRAM-SHA-256".into()];
                AuthRequest::Sasl {
                    mechanisms: mechanisms.into(),
                }
                .encode(&mut out);
                Due::ClientFirst
            }
            (Due::ClientFirst, Some(verifier)) => {
                let first = SaslInitialResponse::parse(body).map_err(io::Error::other)?;
                let nonce = Nonce::fresh().map_err(io::Error::other)?;
                let (salt, iterations) = (verifier.salt(), verifier.iterations());
                let first = first.response.unwrap_or_default();
                let binding = ChannelBinding::None;
                let begun = ServerExchange::begin(first, &nonce, salt, iterations, &binding);
                let (exchange, words) = begun.map_err(io::Error::other)?;
                AuthRequest::SaslContinue(words.into()).encode(&mut out);
                Due::ClientFinal(exchange)
            }
            (Due::ClientFinal(exchange), Some(verifier)) => {
                let proof = exchange.proof(body).map_err(io::Error::other)?;
                let accepted = proof.check(verifier).map_err(io::Error::other)?;
                AuthRequest::SaslFinal(accepted.server_final.into()).encode(&mut out);
                out.extend_from_slice(&self.welcome);
                Due::Query
            }
            (Due::Query, _) => {
                match self.idle.pop() {
                    Some(server) => self.ask(server, number, said)?,
                    None => self.waiting.push_back((number, said.to_owned())),
                }
                return Ok(Due::Nothing);
            }
            (_, _) => {
                out.extend_from_slice(&self.welcome);
                Due::Query
            }
        };
        send(client, &out, SendFlags::NOSIGNAL)?;
        Ok(due)
    }

    fn ask(&mut self, server: usize, client: usize, query: &[u8]) -> io::Result<()> {
        if let End::Server(socket, works_for) = &mut self.ends[server] {
            *works_for = client;
            send(socket, query, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    fn answered(
        &mut self,
        number: usize,
        socket: OwnedFd,
        client: usize,
        said: &[u8],
    ) -> io::Result<()> {
        self.ends[number] = End::Server(socket, client);
        if let End::Client(client, due) = &mut self.ends[client] {
            send(client, said, SendFlags::NOSIGNAL)?;
            *due = Due::Query;
        }
        if said.ends_with(READY) {
            match self.waiting.pop_front() {
                Some((next, query)) => self.ask(number, next, &query)?,
                None => self.idle.push(number),
            }
        }
        Ok(())
    }
}
