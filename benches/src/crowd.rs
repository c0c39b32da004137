//! Many clients at once.

use std::{net::SocketAddr, time::Duration};

use tokio::task::JoinSet;

use crate::{
    client::{Client, Order},
    door::{Door, Way},
    failure::Failure,
    stage::Lines,
    work::Work,
};

/// Clients that ask as soon as they were answered.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// What each of them does.
    pub(crate) work: Work,
    /// How many there are.
    pub(crate) clients: usize,
    /// Do they stay?
    pub(crate) habit: Habit,
    /// How they come in.
    pub(crate) door: Door,
    /// What poolers are told beyond what all of them are.
    pub(crate) lines: Lines,
}

/// What clients do between two transactions.
#[derive(Clone, Copy)]
pub(crate) enum Habit {
    /// They stay connected.
    Stays,
    /// They connect for each transaction.
    Visits,
}

impl Load {
    /// Clients that stay connected.
    pub(crate) const fn staying(work: Work, clients: usize) -> Self {
        Self {
            work,
            clients,
            habit: Habit::Stays,
            door: Door::Trust,
            lines: &[],
        }
    }

    /// Clients that connect for each transaction.
    pub(crate) const fn visiting(door: Door, clients: usize) -> Self {
        Self {
            work: Work::Simple,
            clients,
            habit: Habit::Visits,
            door,
            lines: &[],
        }
    }

    /// The same clients, who come in another way.
    pub(crate) const fn through(self, door: Door) -> Self {
        Self { door, ..self }
    }

    /// The same clients, of poolers that were told more.
    pub(crate) const fn telling(self, lines: Lines) -> Self {
        Self { lines, ..self }
    }
}

/// Many clients, all on this thread.
#[derive(Default)]
pub(crate) struct Crowd {
    clients: Vec<Client>,
}

/// Fewer than the seats of a pool, and than any listen backlog.
const LOGINS_AT_ONCE: usize = 16;

impl Crowd {
    /// The clients of a load, connected if they are to stay.
    pub(crate) async fn gather(load: Load, address: SocketAddr) -> Result<Self, Failure> {
        let Load {
            work,
            clients,
            habit,
            door,
            lines: _,
        } = load;
        let way = Way::through(door);
        let mut crowd = Self::default();
        match habit {
            Habit::Visits => crowd.clients.extend(
                (0..clients).map(|number| Client::outside(number, work, address, way.clone())),
            ),
            Habit::Stays => {
                while crowd.clients.len() < clients {
                    let room = clients - crowd.clients.len();
                    let batch = crowd.few_more(room, work, address, &way).await?;
                    crowd.join(batch);
                }
            }
        }
        Ok(crowd)
    }

    /// Clients who come in small groups, do one transaction each, and stay.
    pub(crate) async fn idling(load: Load, address: SocketAddr) -> Result<Self, Failure> {
        let way = Way::through(load.door);
        let mut crowd = Self::default();
        while crowd.clients.len() < load.clients {
            let room = load.clients - crowd.clients.len();
            let batch = crowd.few_more(room, load.work, address, &way).await?;
            crowd.join(batch.work(Order::Times(1)).await?.0);
        }
        Ok(crowd)
    }

    /// All do as ordered, at once; and how many transactions they did.
    pub(crate) async fn work(self, order: Order) -> Result<(Self, u64), Failure> {
        let mut working = JoinSet::new();
        for mut client in self.clients {
            let order = order.clone();
            working.spawn(async move {
                let done = client.work(&order).await?;
                Ok((client, done))
            });
        }
        let (mut crowd, mut total) = (Self::default(), 0);
        for (client, done) in all(working).await? {
            crowd.clients.push(client);
            total += done;
        }
        Ok((crowd, total))
    }

    /// The same, and how long each transaction took, client by client.
    pub(crate) async fn timed_work_of_each(
        self,
        order: Order,
    ) -> Result<(Self, Vec<Vec<Duration>>), Failure> {
        let mut working = JoinSet::new();
        for mut client in self.clients {
            let order = order.clone();
            working.spawn(async move {
                let times = client.timed_work(&order).await?;
                Ok((client, times))
            });
        }
        let (mut crowd, mut all_times) = (Self::default(), Vec::new());
        for (client, times) in all(working).await? {
            crowd.clients.push(client);
            all_times.push(times);
        }
        Ok((crowd, all_times))
    }

    /// All leave, and the other side has closed after them.
    pub(crate) async fn leave(self) -> Result<(), Failure> {
        let mut leaving = JoinSet::new();
        for client in self.clients {
            leaving.spawn(client.leave());
        }
        all(leaving).await.map(drop)
    }

    /// Lets in the next few clients.
    async fn few_more(
        &self,
        room: usize,
        work: Work,
        address: SocketAddr,
        way: &Way,
    ) -> Result<Self, Failure> {
        let first = self.clients.len();
        let mut arriving = JoinSet::new();
        for number in first..first + room.min(LOGINS_AT_ONCE) {
            let way = way.clone();
            arriving.spawn(async move { Client::inside(number, work, address, &way).await });
        }
        let clients = all(arriving).await?;
        Ok(Self { clients })
    }

    fn join(&mut self, others: Self) {
        self.clients.extend(others.clients);
    }
}

/// What all tasks come to; the first failure ends the others.
pub(crate) async fn all<T: 'static>(
    mut tasks: JoinSet<Result<T, Failure>>,
) -> Result<Vec<T>, Failure> {
    let mut values = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(value) => values.push(value?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(values)
}
