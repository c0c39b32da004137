//! Other processes of our kind: cancel requests that belong to their clients are passed on.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::time::timeout;
use net::dial::{Encryption, dial};
use net::stream::Target;
use net::{Conn, resolve::resolve};
use pool::server::cancel::land;
use pool::server::login::socket_path;
use settings::{Host, Peer};
use tokio::sync::{Semaphore, SemaphorePermit};
use wire::CancelKey;

use crate::process::Counted;
use crate::setup::Setup;

/// Longest time that connecting to a peer may take without `server_connect_timeout`, and landing
/// there on top of what the peer may let it wait.
const STEP_MAX: Duration = Duration::from_secs(15);

/// The ways to our peers, made when they are needed.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<BTreeMap<u16, Arc<Line>>>);

/// Requests for one peer: as many on their way as the peer has seats, the others in line.
#[derive(Debug)]
struct Line {
    seats: usize,
    turns: Semaphore,
    waiting: Arc<AtomicU32>,
    connecting: Arc<AtomicU32>,
    active: Arc<AtomicU32>,
}

/// How many requests for a peer there are at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PeerCounts {
    /// In line.
    pub(crate) waiting: u32,
    /// Connecting.
    pub(crate) connecting: u32,
    /// Sent, and not landed yet.
    pub(crate) active: u32,
}

impl Peers {
    /// Passes a request on to the peer whose client it is for; returns when it has landed there.
    pub(crate) async fn pass_on(&self, setup: &Setup, key: &CancelKey) {
        let id = key.peer_id();
        let Some(peer) = setup.config.peers.get(&id) else {
            tracing::info!("cancel request for unknown peer {id} dropped");
            return;
        };
        let Some(key) = key.passed_on() else {
            tracing::warn!("cancel request for peer {id} was passed on too often: dropped");
            return;
        };
        let line = self.line(setup, peer);
        let wait = setup.config.settings.cancel_wait_timeout;
        let Some(_turn) = line.turn(wait).await else {
            tracing::info!("cancel request for peer {id} closing because: cancel_wait_timeout");
            return;
        };
        tracing::debug!(name: "cancel_passed_on", "cancel request is passed on to peer {id}");
        if let Err(error) = line.carry(setup, peer, &key).await {
            tracing::warn!(name: "cancel_failed", "cancel request for peer {id} failed: {error}");
        }
    }

    /// What is under way to this peer.
    pub(crate) fn counts(&self, id: u16) -> PeerCounts {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |count: &AtomicU32| count.load(Ordering::Relaxed);
        lines
            .get(&id)
            .map_or_else(PeerCounts::default, |line| PeerCounts {
                waiting: count(&line.waiting),
                connecting: count(&line.connecting),
                active: count(&line.active),
            })
    }

    /// The line for a peer; a new one if it has another number of seats now.
    fn line(&self, setup: &Setup, peer: &Peer) -> Arc<Line> {
        let size = peer
            .pool_size
            .unwrap_or(setup.config.settings.default_pool_size);
        let seats = match size {
            0 => Semaphore::MAX_PERMITS,
            size => size as usize,
        };
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.get(&peer.id) {
            Some(line) if line.seats == seats => line.clone(),
            _ => {
                let line = Arc::new(Line::new(seats));
                lines.insert(peer.id, line.clone());
                line
            }
        }
    }
}

impl Line {
    fn new(seats: usize) -> Self {
        Self {
            seats,
            turns: Semaphore::new(seats),
            waiting: Arc::default(),
            connecting: Arc::default(),
            active: Arc::default(),
        }
    }

    /// Waits for a seat; `None` if that takes too long.
    async fn turn(&self, wait: Duration) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Some(turn);
        }
        let _waiting = Counted::new(self.waiting.clone());
        let turn = self.turns.acquire();
        let turn = match wait {
            Duration::ZERO => turn.await,
            wait => timeout(wait, turn).await.ok()?,
        };
        turn.ok()
    }

    async fn carry(&self, setup: &Setup, peer: &Peer, key: &CancelKey) -> io::Result<()> {
        let settings = &setup.config.settings;
        let limit = match settings.server_connect_timeout {
            Duration::ZERO => STEP_MAX,
            limit => limit,
        };
        let connecting = Counted::new(self.connecting.clone());
        let conn = timeout(limit, connect(setup, peer)).await;
        let conn = conn.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        drop(connecting);
        let _active = Counted::new(self.active.clone());
        let landing = settings.cancel_wait_timeout.saturating_add(STEP_MAX);
        land(conn, key, Some(landing)).await
    }
}

/// Connects to the first of the peer's addresses that answers. In the clear, as cancel requests are
/// taken everywhere: the key is good for nothing else.
async fn connect(setup: &Setup, peer: &Peer) -> io::Result<Conn> {
    let targets = match &peer.host {
        Host::Unix(dir) => vec![Target::Unix(socket_path(dir, peer.port))],
        Host::Ip(ip) => vec![Target::Tcp((*ip, peer.port).into(), None)],
        Host::Name(name) => {
            let found = resolve(name, peer.port).await?.into_iter();
            found.map(|addr| Target::Tcp(addr, None)).collect()
        }
    };
    let options = setup.tcp_options();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for target in targets {
        match dial(&target, &options, Encryption::Never).await {
            Ok(conn) => return Ok(conn),
            Err(error) => failure = io::Error::other(error),
        }
    }
    Err(failure)
}
