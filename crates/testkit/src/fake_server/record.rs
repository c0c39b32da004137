//! Who is with the fake server, and what they said.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::{Mutex as AsyncMutex, watch};

use super::{FakeServerSetup, Gate, Login};
use crate::{
    address::Socket,
    eventually::eventually,
    message::{CancelKey, Message},
};

/// What all sessions of a fake server share.
pub(super) struct Hall {
    pub(super) setup: FakeServerSetup,
    state: Mutex<State>,
}

struct State {
    login: Login,
    logged_in: Vec<Arc<Connection>>,
    logged_in_max: usize,
    connections: Vec<Arc<Connection>>,
    cancels: Vec<CancelKey>,
    gates: HashMap<String, Gate>,
}

impl Hall {
    pub(super) fn new(setup: FakeServerSetup) -> Self {
        let state = State {
            login: setup.login.clone(),
            logged_in: Vec::new(),
            logged_in_max: 0,
            connections: Vec::new(),
            cancels: Vec::new(),
            gates: HashMap::new(),
        };
        Self {
            setup,
            state: Mutex::new(state),
        }
    }

    pub(super) fn login(&self) -> Login {
        self.state().login.clone()
    }

    pub(super) fn set_login(&self, login: Login) {
        self.state().login = login;
    }

    pub(super) fn logged_in(&self) -> usize {
        self.state().logged_in.len()
    }

    pub(super) fn logged_in_max(&self) -> usize {
        self.state().logged_in_max
    }

    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        self.state().connections.clone()
    }

    pub(super) fn cancels(&self) -> Vec<CancelKey> {
        self.state().cancels.clone()
    }

    pub(super) fn gate(&self, name: &str) -> Gate {
        self.state()
            .gates
            .entry(name.to_owned())
            .or_insert_with(Gate::closed)
            .clone()
    }

    /// Notes a connection that asks for a session.
    pub(super) fn arrives(
        &self,
        socket: &Arc<Socket>,
        version: u32,
        parameters: Vec<(String, String)>,
    ) -> Arc<Connection> {
        let mut state = self.state();
        let number = state.connections.len();
        let pid = u32::try_from(number).unwrap_or(0).wrapping_add(1000);
        // Not a secret worth keeping: recognizable in a dump, and different for each.
        let secret =
            (0..).map(|byte: u32| (pid.wrapping_mul(31).wrapping_add(byte * 7) % 251) as u8);
        let secret = secret.take(self.setup.cancel_secret_len).collect();
        let connection = Arc::new(Connection {
            number,
            version,
            parameters,
            key: CancelKey { pid, secret },
            socket: Arc::downgrade(socket),
            writing: AsyncMutex::new(()),
            heard: Mutex::default(),
            cancelled: watch::Sender::new(0),
            end: watch::Sender::new(End::NotYet),
        });
        state.connections.push(connection.clone());
        connection
    }

    /// A session is open for as long as the returned value lives.
    pub(super) fn logs_in(self: &Arc<Self>, connection: &Arc<Connection>) -> Seat {
        let mut state = self.state();
        state.logged_in.push(connection.clone());
        // Who has closed already counts no more, though its session may not have read that yet.
        let there = state.logged_in.iter().filter(|it| !it.has_left());
        state.logged_in_max = state.logged_in_max.max(there.count());
        Seat {
            hall: self.clone(),
            number: connection.number,
        }
    }

    /// Notes a cancel request, and tells the session that it is meant for.
    pub(super) fn cancel(&self, key: CancelKey) {
        let mut state = self.state();
        if let Some(connection) = state
            .connections
            .iter()
            .find(|connection| connection.key == key)
        {
            connection.cancelled.send_modify(|times| *times += 1);
        }
        state.cancels.push(key);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One logged-in session.
pub(super) struct Seat {
    hall: Arc<Hall>,
    number: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let logged_in = &mut self.hall.state().logged_in;
        logged_in.retain(|connection| connection.number != self.number);
    }
}

/// One connection to a fake server: what was heard from it, and what can be done to it.
pub struct Connection {
    /// Its place in the order of arrival.
    pub number: usize,
    /// The protocol that it asked for: major in the upper half, minor in the lower.
    pub version: u32,
    /// The parameters of its startup packet.
    pub parameters: Vec<(String, String)>,
    /// The cancel key it was given.
    pub key: CancelKey,
    /// The session alone keeps it open.
    socket: Weak<Socket>,
    /// Held while a run of whole messages is written.
    pub(super) writing: AsyncMutex<()>,
    heard: Mutex<Heard>,
    pub(super) cancelled: watch::Sender<u32>,
    pub(super) end: watch::Sender<End>,
}

#[derive(Default)]
struct Heard {
    messages: Vec<Message>,
    kept: usize,
    bytes: u64,
    closed: bool,
}

/// How the test wants a session to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    NotYet,
    Close,
    Reset,
}

/// The most bytes of message bodies that are remembered of a connection; later ones are empty.
const KEPT_MAX: usize = 16 << 20;

impl Connection {
    /// A parameter of its startup packet.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All that it said after the startup packet.
    pub fn received(&self) -> Vec<Message> {
        self.heard().messages.clone()
    }

    /// The texts of its simple queries.
    pub fn queries(&self) -> Vec<String> {
        let heard = self.heard();
        let queries = heard.messages.iter().filter(|message| message.tag == b'Q');
        queries
            .map(|query| {
                String::from_utf8_lossy(&query.body)
                    .trim_end_matches('\0')
                    .to_owned()
            })
            .collect()
    }

    /// Bytes of all messages that it sent, bodies and headers.
    pub fn bytes_received(&self) -> u64 {
        self.heard().bytes
    }

    /// Has the other side closed?
    pub fn is_closed(&self) -> bool {
        self.heard().closed
    }

    /// Waits until the session is over.
    pub async fn wait_closed(&self) {
        eventually(&format!("the end of fake session {}", self.number), || {
            self.is_closed()
        })
        .await;
    }

    /// Waits until it has said something that the test looks for.
    pub async fn wait_for(&self, what: &str, mut found: impl FnMut(&Message) -> bool) {
        eventually(what, || self.heard().messages.iter().any(&mut found)).await;
    }

    /// Sends a message out of turn: a notice, a parameter, an error.
    pub async fn send(&self, message: Message) -> io::Result<()> {
        let _turn = self.writing.lock().await;
        let socket = self.socket.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        socket.write_all(&message.encode()).await
    }

    /// Closes it, whatever it is doing.
    pub fn close(&self) {
        self.end.send_replace(End::Close);
    }

    /// Resets it, whatever it is doing.
    pub fn reset(&self) {
        self.end.send_replace(End::Reset);
    }

    pub(super) fn hears(&self, message: &Message) {
        let mut heard = self.heard();
        heard.bytes += message.body.len() as u64 + 5;
        heard.kept += message.body.len();
        let mut kept = message.clone();
        if heard.kept > KEPT_MAX {
            kept.body.clear();
        }
        heard.messages.push(kept);
    }

    /// Has the other side closed, whether or not the session knows?
    fn has_left(&self) -> bool {
        self.socket
            .upgrade()
            .is_none_or(|socket| socket.peer_closed())
    }

    pub(super) fn is_over(&self) {
        self.heard().closed = true;
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
