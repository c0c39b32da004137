//! One pool on one worker: which server serves which client.
//!
//! `PoolState` decides and never waits: time is an argument, the answer is a value.
//!
//! ```text
//!   (login) ──▶ Idle ◀──────────▶ Leased ──▶ Resetting ──▶ Idle
//!                │ ▲                 └─────▶ BeingCanceled ──▶ Idle
//!                ▼ │ probe answered
//!              Checking
//! ```

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use events::time::Instant;
use slab::Slab;

use crate::key::{ClientId, ServerId};

/// How much earlier a waiter of another worker must have come to go first, at the least. Below this,
/// sending a server over costs more than the place in line is worth.
pub const LEAST_LEAD: Duration = Duration::from_micros(500);

/// The same, however long everybody has to wait.
pub const GREATEST_LEAD: Duration = Duration::from_millis(5);

/// How long a client waits for servers that serve others of its worker, before other workers are
/// asked: most likely one of those comes free sooner than one could be sent over.
pub const HOME_PATIENCE: Duration = Duration::from_millis(1);

/// Of so many idle servers that would be lent next, the first goes that runs where the worker does,
const CHOICE: usize = 4;

/// while so many others are at work, and once a turn. With none, whoever is alone has the same server
/// each time; with more, those who run here would wait for each other while other processors are idle.
const COMPANY: RangeInclusive<usize> = 1..=2;

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Waits for a client.
    Idle {
        /// Since when.
        since: Instant,
        /// The processor that it sleeps on, once this was asked.
        cpu: Option<u32>,
    },
    /// Serves this client.
    Leased {
        /// Which.
        client: ClientId,
    },
    /// Runs the reset query.
    Resetting,
    /// Answers a probe before it is lent again.
    Checking,
    /// A cancel request aimed at it is still under way.
    BeingCanceled,
}

/// A client in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// Who.
    pub client: ClientId,
    /// Since when.
    pub since: Instant,
}

/// The answer to a client that needs a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// This server is yours.
    Server(ServerId),
    /// You are in line; this idle server must be probed first.
    Check(ServerId),
    /// You are in line.
    Wait,
}

/// What becomes of a server that is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It serves this client, who waited longest.
    Serve(Waiter),
    /// A client of another worker has waited longer: send it over.
    SendOver,
    /// It is idle.
    Idle,
}

/// The settings that these decisions need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Nobody is served (`PAUSE`).
    pub paused: bool,
    /// Idle servers are lent in turn (`server_round_robin`).
    pub round_robin: bool,
    /// Idle for longer than this, a server is probed first; `None` means never.
    pub check_after: Option<Duration>,
}

/// The servers and waiters of one pool on one worker.
#[derive(Debug, Default)]
pub struct PoolState {
    servers: Slab<ServerState>,
    /// The next to be lent is at the front.
    idle: VecDeque<ServerId>,
    waiting: VecDeque<Waiter>,
    counts: Counts,
    /// The turn in which it was last looked where idle servers sleep.
    looked: Option<Instant>,
}

/// How many servers are in each state.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Waiting for a client.
    pub idle: usize,
    /// Serving one.
    pub leased: usize,
    /// Running the reset query or answering a probe.
    pub tested: usize,
    /// Waiting for a cancel request to land.
    pub being_canceled: usize,
}

impl PoolState {
    /// Answers a client that needs a server. `here` is the processor that this worker runs on, `cpu_of`
    /// the one that an idle server sleeps on; if that can't be told of one, it can't of the others.
    pub fn request(
        &mut self,
        client: ClientId,
        now: Instant,
        rules: Rules,
        here: impl FnOnce() -> Option<u32>,
        cpu_of: impl Fn(ServerId) -> Option<u32>,
    ) -> Grant {
        let waiter = Waiter { client, since: now };
        if rules.paused || !self.waiting.is_empty() {
            self.waiting.push_back(waiter);
            return Grant::Wait;
        }
        match self.idle.front().copied() {
            Some(server) if self.is_stale(server, now, rules) => {
                self.waiting.push_back(waiter);
                self.idle.pop_front();
                self.enter(server, ServerState::Checking);
                Grant::Check(server)
            }
            Some(next) => {
                let near = self.nearest(now, rules, here, cpu_of);
                let near = near.and_then(|place| self.idle.remove(place));
                let server = near.or_else(|| self.idle.pop_front()).unwrap_or(next);
                self.enter(server, ServerState::Leased { client });
                Grant::Server(server)
            }
            None => {
                self.waiting.push_back(waiter);
                Grant::Wait
            }
        }
    }

    /// The place among the idle of the one that a client of this worker gets, if not the first.
    #[inline]
    fn nearest(
        &mut self,
        now: Instant,
        rules: Rules,
        here: impl FnOnce() -> Option<u32>,
        cpu_of: impl Fn(ServerId) -> Option<u32>,
    ) -> Option<usize> {
        if rules.round_robin || !COMPANY.contains(&self.counts.leased) || self.idle.len() < 2 {
            return None;
        }
        if self.looked.replace(now) == Some(now) {
            return None;
        }
        let here = here()?;
        for (place, &server) in self.idle.iter().take(CHOICE).enumerate() {
            let Some(ServerState::Idle { since, cpu }) = self.servers.get_mut(server.0) else {
                return None;
            };
            if rules.is_stale(*since, now) {
                return None;
            }
            if cpu.is_none() {
                *cpu = cpu_of(server);
            }
            if (*cpu)? == here {
                return (place > 0).then_some(place);
            }
        }
        None
    }

    /// Takes in a server that logged in or came over. It is set aside: release it to lend it.
    pub fn add(&mut self) -> ServerId {
        self.counts.tested += 1;
        ServerId(self.servers.insert(ServerState::Resetting))
    }

    /// Takes in a server that logged in for this client alone.
    pub fn add_leased(&mut self, client: ClientId) -> ServerId {
        self.counts.leased += 1;
        ServerId(self.servers.insert(ServerState::Leased { client }))
    }

    /// A server is free: it goes to whoever waited longest, here or, by `remote`'s start of
    /// waiting, on another worker.
    pub fn release(
        &mut self,
        server: ServerId,
        now: Instant,
        rules: Rules,
        remote: Option<Instant>,
    ) -> Next {
        if !rules.paused {
            let own = self.waiting.front().map(|waiter| waiter.since);
            if let Some(remote) = remote
                && goes_first(remote, own, now)
            {
                return Next::SendOver;
            }
            if let Some(waiter) = self.waiting.pop_front() {
                let client = waiter.client;
                self.enter(server, ServerState::Leased { client });
                return Next::Serve(waiter);
            }
        }
        self.enter(
            server,
            ServerState::Idle {
                since: now,
                cpu: None,
            },
        );
        if rules.round_robin {
            self.idle.push_back(server);
        } else {
            self.idle.push_front(server);
        }
        Next::Idle
    }

    /// A server runs its reset query, or waits for a cancel request to land.
    pub fn set_aside(&mut self, server: ServerId, state: ServerState) {
        debug_assert!(matches!(
            state,
            ServerState::Resetting | ServerState::BeingCanceled
        ));
        self.enter(server, state);
    }

    /// Takes the next idle server for a probe, if somebody waits and nothing fresh is idle.
    pub fn check_next(&mut self) -> Option<ServerId> {
        if self.waiting.len() <= self.counts.tested {
            return None;
        }
        let server = self.idle.pop_front()?;
        self.enter(server, ServerState::Checking);
        Some(server)
    }

    /// Takes an idle server for the longest waiter: after RESUME, or when one came free otherwise.
    pub fn serve_waiting(&mut self, now: Instant, rules: Rules) -> Option<(Waiter, ServerId)> {
        if rules.paused || self.waiting.is_empty() {
            return None;
        }
        let server = *self.idle.front()?;
        if self.is_stale(server, now, rules) {
            return None;
        }
        self.idle.pop_front();
        let waiter = self.waiting.pop_front()?;
        let client = waiter.client;
        self.enter(server, ServerState::Leased { client });
        Some((waiter, server))
    }

    /// Whether the idle server that would be lent next must be probed first.
    pub fn next_is_stale(&self, now: Instant, rules: Rules) -> bool {
        let next = self.idle.front();
        next.is_some_and(|&server| self.is_stale(server, now, rules))
    }

    /// Takes the idle server that would be lent next, to be sent over to another worker.
    pub fn take_idle(&mut self) -> Option<ServerId> {
        let server = self.idle.pop_front()?;
        self.enter(server, ServerState::Resetting);
        Some(server)
    }

    /// Forgets a server: it closed, or went over to another worker.
    pub fn remove(&mut self, server: ServerId) {
        if let Some(state) = self.servers.try_remove(server.0) {
            self.count(state, usize::wrapping_sub);
            if matches!(state, ServerState::Idle { .. }) {
                self.idle.retain(|&other| other != server);
            }
        }
    }

    /// A client leaves the line; false if it was not in it.
    pub fn abandon(&mut self, client: ClientId) -> bool {
        let place = self.waiting.iter().position(|w| w.client == client);
        place.and_then(|place| self.waiting.remove(place)).is_some()
    }

    /// The client that has waited longest.
    pub fn oldest(&self) -> Option<Waiter> {
        self.waiting.front().copied()
    }

    /// Whether those in line can do with the servers that are here, for now: some serve, and nobody has
    /// waited for long.
    pub fn is_content(&self, now: Instant, patience: Duration) -> bool {
        let head = self.waiting.front();
        self.counts.leased > 0 && head.is_some_and(|head| now - head.since < patience)
    }

    /// Everybody in line, longest first.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &Waiter> {
        self.waiting.iter()
    }

    /// Idle servers, the next to be lent first.
    pub fn idle(&self) -> impl DoubleEndedIterator<Item = (ServerId, Instant)> {
        self.idle
            .iter()
            .filter_map(|&server| match self.servers.get(server.0) {
                Some(&ServerState::Idle { since, .. }) => Some((server, since)),
                _ => None,
            })
    }

    /// True if a server waits for a client.
    pub fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// What a server does.
    pub fn state(&self, server: ServerId) -> Option<ServerState> {
        self.servers.get(server.0).copied()
    }

    /// All servers.
    pub fn servers(&self) -> impl Iterator<Item = (ServerId, ServerState)> {
        self.servers
            .iter()
            .map(|(id, &state)| (ServerId(id), state))
    }

    /// How many servers are in each state.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many servers there are.
    pub fn server_count(&self) -> usize {
        self.servers.len()
    }

    /// True without servers and waiters.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.waiting.is_empty()
    }

    fn is_stale(&self, server: ServerId, now: Instant, rules: Rules) -> bool {
        match self.servers.get(server.0) {
            Some(ServerState::Idle { since, .. }) => rules.is_stale(*since, now),
            _ => false,
        }
    }

    /// The one place where a server changes its state.
    fn enter(&mut self, server: ServerId, state: ServerState) {
        let Some(slot) = self.servers.get_mut(server.0) else {
            debug_assert!(false, "{server:?} is not here");
            return;
        };
        let before = std::mem::replace(slot, state);
        debug_assert!(before.may_become(state), "{before:?} became {state:?}");
        self.count(before, usize::wrapping_sub);
        self.count(state, usize::wrapping_add);
    }

    fn count(&mut self, state: ServerState, change: fn(usize, usize) -> usize) {
        let slot = match state {
            ServerState::Idle { .. } => &mut self.counts.idle,
            ServerState::Leased { .. } => &mut self.counts.leased,
            ServerState::Resetting | ServerState::Checking => &mut self.counts.tested,
            ServerState::BeingCanceled => &mut self.counts.being_canceled,
        };
        *slot = change(*slot, 1);
    }
}

impl Rules {
    /// Whether a server that has been idle since then must be probed before it is lent.
    fn is_stale(self, since: Instant, now: Instant) -> bool {
        self.check_after
            .is_some_and(|limit| now.saturating_duration_since(since) >= limit)
    }
}

impl ServerState {
    fn may_become(self, next: Self) -> bool {
        match (self, next) {
            // A server serves one client at a time, and is handed on only through its release.
            (Self::Idle { .. }, Self::Idle { .. }) => false,
            (Self::Idle { .. }, _) | (_, Self::Idle { .. }) => true,
            (_, Self::Leased { .. }) => true,
            (Self::Leased { .. }, Self::Checking) => false,
            (Self::Leased { .. }, _) => true,
            (Self::BeingCanceled, Self::Resetting) => true,
            _ => false,
        }
    }
}

/// Whether a waiter of another worker goes before our own: if it has waited for a good quarter longer.
/// Where waits are short, a small difference is much; where they are long, servers stay where they are.
fn goes_first(remote: Instant, own: Option<Instant>, now: Instant) -> bool {
    own.is_none_or(|own| {
        let lead = LEAST_LEAD + (now - own) / 4;
        own - remote > lead.min(GREATEST_LEAD)
    })
}

#[cfg(test)]
mod tests;
