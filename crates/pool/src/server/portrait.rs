//! A server as another process can take it on: its socket, and plain values.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use events::time::Instant;
use net::Stream;
use net::conn::ParkedConn;
use net::stream::{Parked, Target};
use wire::{CancelKey, Params, Replication};

use super::prepared::Prepared;
use super::{Facts, ParkedServer, Server};
use crate::statements::Statement;

/// All that is known of a server.
#[derive(Debug)]
pub struct Portrait {
    /// Its number.
    pub id: u64,
    /// Where it was connected to.
    pub target: Target,
    /// Its own cancel key, if it gave one.
    pub key: Option<CancelKey>,
    /// How long ago it was connected.
    pub age: Duration,
    /// The same, as a time of day.
    pub connect_time: SystemTime,
    /// How long ago a client last began a request on it.
    pub unused_for: Duration,
    /// Whether a session has used it.
    pub touched: bool,
    /// Its tracked parameters as they were before its first client.
    pub defaults: Arc<Params>,
    /// Its tracked parameters.
    pub params: Arc<Params>,
    /// The pooled statements that it has, the least recently used first.
    pub prepared: Vec<Arc<Statement>>,
}

impl Server {
    /// What is known of a server that its client keeps, and its socket once more; `None` if another
    /// process can't take it on, or not now.
    pub fn portrait(&self) -> Option<(Portrait, OwnedFd)> {
        if self.cancels.get() > 0 || self.doubt.get().is_some() || self.facts.is_own() {
            return None;
        }
        let io = self.io.borrow();
        let socket = io.conn.stream().copy().ok()??;
        let facts = &self.facts;
        let portrait = Portrait {
            id: self.id,
            target: facts.target.clone(),
            key: facts.key.clone(),
            age: facts.opened.elapsed(),
            connect_time: facts.connect_time,
            unused_for: self.request_time.get().elapsed(),
            touched: self.touched.get(),
            defaults: facts.defaults.clone(),
            params: io.params.clone(),
            prepared: io.prepared.usable().cloned().collect(),
        };
        Some((portrait, socket))
    }
}

impl ParkedServer {
    /// Takes it apart for another process; `None` if that can't take it on, since what its socket
    /// carries is encrypted.
    pub fn into_portrait(self) -> Option<(Portrait, OwnedFd)> {
        let facts = self.facts;
        let portrait = Portrait {
            id: self.id,
            target: facts.target,
            key: facts.key,
            age: facts.opened.elapsed(),
            connect_time: facts.connect_time,
            unused_for: self.request_time.elapsed(),
            touched: self.touched,
            defaults: facts.defaults,
            params: self.params,
            prepared: self.prepared.usable().cloned().collect(),
        };
        Some((portrait, self.conn.into_stream().into_fd()?))
    }

    /// Puts one together that another process has sent, of a database at this port, in its present
    /// generation.
    pub(crate) fn arrived(
        portrait: Portrait,
        socket: Parked,
        port: u16,
        generation: u64,
    ) -> io::Result<Self> {
        // For a moment only: a socket alone does not tell whose it is.
        let stream = Stream::unpark(socket)?;
        let (peer, local) = (stream.peer_addr(port)?, stream.local_addr());
        let now = Instant::now();
        let ago = |age: Duration| now - age;
        let mut prepared = Prepared::default();
        for statement in portrait.prepared {
            prepared.add(statement);
        }
        Ok(Self {
            id: portrait.id,
            facts: Facts {
                target: portrait.target,
                peer,
                local,
                tls: None,
                key: portrait.key,
                opened: ago(portrait.age),
                connect_time: portrait.connect_time,
                generation,
                replication: Replication::None,
                defaults: portrait.defaults,
            },
            request_time: ago(portrait.unused_for),
            touched: portrait.touched,
            params: portrait.params,
            prepared,
            conn: ParkedConn::arrived(stream.park()?),
        })
    }
}
