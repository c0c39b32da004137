//! One client, and what it does next.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    door::Way,
    failure::Failure,
    session::Session,
    work::{Dialogue, Work},
};

/// A client with its next questions.
pub(crate) struct Client {
    number: usize,
    dialogues: [Dialogue; 2],
    turns: usize,
    presence: Presence,
}

/// Where a client is between two transactions.
enum Presence {
    /// Logged in.
    Inside(Session),
    /// Away: it comes for one transaction, and leaves.
    Outside {
        address: SocketAddr,
        way: Way,
        buffer_len: usize,
    },
}

/// How long clients go on.
#[derive(Clone)]
pub(crate) enum Order {
    /// So many transactions each.
    Times(u64),
    /// Until this is set; what was begun is finished.
    Until(Arc<AtomicBool>),
}

impl Order {
    fn goes_on(&self, done: u64) -> bool {
        match self {
            Self::Times(times) => done < *times,
            Self::Until(stop) => !stop.load(Ordering::Relaxed),
        }
    }
}

impl Client {
    /// A client that is logged in from now on.
    pub(crate) async fn inside(
        number: usize,
        work: Work,
        address: SocketAddr,
        way: &Way,
    ) -> Result<Self, Failure> {
        let opened = Session::open(address, way, work.buffer_len()).await;
        let mut session = opened.map_err(|failure| failure.at(format!("client {number}")))?;
        session.talk(&work.opening()).await?;
        Ok(Self::new(number, work, Presence::Inside(session)))
    }

    /// A client that logs in for each transaction.
    pub(crate) fn outside(number: usize, work: Work, address: SocketAddr, way: Way) -> Self {
        let buffer_len = work.buffer_len();
        let presence = Presence::Outside {
            address,
            way,
            buffer_len,
        };
        Self::new(number, work, presence)
    }

    fn new(number: usize, work: Work, presence: Presence) -> Self {
        Self {
            number,
            dialogues: work.dialogues(number),
            turns: 0,
            presence,
        }
    }

    /// Does as ordered, and says how many transactions it did.
    pub(crate) async fn work(&mut self, order: &Order) -> Result<u64, Failure> {
        let mut done = 0;
        while order.goes_on(done) {
            let transacted = self.transact().await;
            transacted.map_err(|failure| {
                let (number, turns) = (self.number, self.turns);
                failure.at(format!("client {number}, transaction {turns}"))
            })?;
            done += 1;
        }
        Ok(done)
    }

    /// The same, and how long each transaction took.
    pub(crate) async fn timed_work(&mut self, order: &Order) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        while order.goes_on(times.len() as u64) {
            let started = Instant::now();
            self.work(&Order::Times(1)).await?;
            times.push(started.elapsed());
        }
        Ok(times)
    }

    /// Goes, if it was inside.
    pub(crate) async fn leave(self) -> Result<(), Failure> {
        match self.presence {
            Presence::Inside(session) => session.leave().await,
            Presence::Outside { .. } => Ok(()),
        }
    }

    async fn transact(&mut self) -> Result<(), Failure> {
        let dialogue = &self.dialogues[self.turns % 2];
        self.turns += 1;
        match &mut self.presence {
            Presence::Inside(session) => session.talk(dialogue).await,
            Presence::Outside {
                address,
                way,
                buffer_len,
            } => {
                let mut session = Session::open(*address, way, *buffer_len).await?;
                session.talk(dialogue).await?;
                session.leave().await
            }
        }
    }
}
