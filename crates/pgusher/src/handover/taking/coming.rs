//! A client or a server that has come over: what it is here.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use events::time::Instant;
use net::stream::Parked;
use pool::moving::unpack;
use pool::server::ParkedServer;
use pool::server::portrait::Portrait;
use pool::shared::{Freshness, Mail, Welcome};
use pool::{ClientId, PoolShared, WorkerId};
use wire::{CancelKey, Params};

use super::{Estate, Who};
use crate::cancel::Registered;
use crate::handover::arrival::Arrival;
use crate::handover::origin::{params, time_of_day};
use crate::handover::record::{AnswerRecord, ClientRecord, Frame, ServerRecord};
use crate::handover::visits::Visit;
use crate::load;
use crate::worker::WorkerMail;

impl Estate {
    pub(super) fn take_server(&mut self, record: &ServerRecord, mut sockets: Vec<OwnedFd>) {
        let shared = &self.pooler.process.shared;
        let Some(pool) = self.pool(&record.place) else {
            return;
        };
        match self.server(record, &pool, sockets.pop()) {
            Some(server) => {
                shared.limits(|limits| limits.came_over(pool.id));
                self.came[1] += 1;
                self.turn = self.turn.wrapping_add(1) % shared.workers().max(1);
                let mail = Mail::Server(pool.id, Box::new(server), Freshness::Fresh);
                shared.send(WorkerId(self.turn), mail);
            }
            None => {
                let passed = shared.limits(|limits| limits.lent_closed(pool.id));
                shared.deliver(passed);
            }
        }
    }

    fn server(
        &self,
        record: &ServerRecord,
        pool: &PoolShared,
        socket: Option<OwnedFd>,
    ) -> Option<ParkedServer> {
        let portrait = self.portrait(record, pool)?;
        unpack(pool, portrait, Parked::arrived(socket?).ok()?).ok()
    }

    /// What a server is here; `None` if it can't be used.
    fn portrait(&self, record: &ServerRecord, pool: &PoolShared) -> Option<Portrait> {
        let shared = &self.pooler.process.shared;
        if !self.is_ours(&pool.database.config.load(), &record.origin) {
            return None;
        }
        let like = reported(pool);
        let params = |values| params(&shared.names, values, like.as_ref());
        let statements = &shared.statements;
        let prepared = record.statements.iter().filter_map(|it| {
            let legacy = it.legacy(shared)?;
            Some(statements.adopt_on_server(&it.definition.0, legacy))
        });
        let key = match &record.key {
            Some(key) => Some(CancelKey::parse(&key.0)?),
            None => None,
        };
        Some(Portrait {
            id: record.id,
            target: record.target.target()?,
            key,
            age: Duration::from_micros(record.age),
            connect_time: time_of_day(record.connect_time),
            unused_for: Duration::from_micros(record.unused_for),
            touched: record.touched,
            defaults: params(&record.defaults),
            params: params(&record.params),
            prepared: prepared.collect(),
        })
    }

    pub(super) async fn take_client(&mut self, record: &ClientRecord, sockets: Vec<OwnedFd>) {
        let number = record.id;
        let arrival = self.arrival(record, sockets);
        let yes = arrival.is_some();
        let answer = Frame::Answer(AnswerRecord { number, yes });
        // Nobody reads from the client before the old process can know that it must not.
        let heard = self.post.send_and_wait(&answer).await;
        let Some((worker, arrival)) = arrival.filter(|_| heard) else {
            return;
        };
        let process = &self.pooler.process;
        self.came[0] += 1;
        if arrival.server.is_some() {
            self.came[1] += 1;
            let pool = arrival.pool.id;
            process.shared.limits(|limits| limits.came_over(pool));
        }
        if let Some(worker) = process.workers.get(worker.0) {
            let _ = worker.send(WorkerMail::Arrive(Box::new(arrival)));
        }
    }

    /// What a client is here, and with which worker; `None` if it can't be taken on.
    fn arrival(
        &mut self,
        record: &ClientRecord,
        sockets: Vec<OwnedFd>,
    ) -> Option<(WorkerId, Arrival)> {
        let process = self.pooler.process;
        let pool = self.pool(&record.place)?;
        // It would get another server than the one it counts on.
        if pool.database.config.load().pool_user(&record.user) != &*pool.key.user {
            return None;
        }
        let (worker, load) = load::choose(&process.loads, &process.shared.cpus, None)?;
        let (worker, id) = (WorkerId(worker), ClientId(record.id));
        let key = CancelKey::parse(&record.key.0)?;
        let key = Registered::adopt(process, worker, id, key)?;
        let mut sockets = sockets.into_iter();
        let socket = Parked::arrived(sockets.next()?).ok()?;
        let server = match &record.server {
            Some(server) => Some(Box::new(self.server(server, &pool, sockets.next())?)),
            None => None,
        };
        let statements = record.statements.iter().filter_map(|(name, it)| {
            let statement = match it.legacy(&process.shared) {
                Some(legacy) => process.shared.statements.adopt(&it.definition.0, legacy),
                None => process.shared.statements.get(&it.definition.0, None)?,
            };
            Some((name.0[..].into(), statement))
        });
        let who: Who = (pool.key.database.clone(), record.user.as_str().into());
        // Counted as ours before it is no more counted as theirs.
        let counted = load.count();
        let (counts, visit) = match self.guest(&who) {
            Some(guest) => (guest.counts, guest.visit),
            None => (self.counts(&who), Visit::new(process, &who.0, &who.1)),
        };
        let now = Instant::now();
        let ago = |micros| now - Duration::from_micros(micros);
        let arrival = Arrival {
            id,
            socket,
            user: who.1,
            params: self.client_params(record, &pool),
            statements: statements.collect(),
            held: record.held.0.to_vec(),
            connect_time: time_of_day(record.connect_time),
            connected: ago(record.age),
            request_time: ago(record.silent_for),
            key,
            counted,
            counts,
            visit,
            server,
            pool,
        };
        Some((worker, arrival))
    }

    /// A client's parameters. What differs from what servers report it has set, so it can be set.
    fn client_params(&self, record: &ClientRecord, pool: &PoolShared) -> Arc<Params> {
        let names = &self.pooler.process.shared.names;
        let like = reported(pool);
        let params = params(names, &record.params, like.as_ref());
        if let Some(like) = like {
            for (name, _, _) in params.changes(&like, names) {
                if let Some(place) = names.find(name) {
                    names.note_set(place);
                }
            }
        }
        params
    }
}

/// What the pool's first server reported.
fn reported(pool: &PoolShared) -> Option<Arc<Params>> {
    match &*pool.welcome.borrow() {
        Welcome::Known(reported) => Some(reported.tracked.clone()),
        Welcome::Unknown | Welcome::Refused(_) => None,
    }
}
