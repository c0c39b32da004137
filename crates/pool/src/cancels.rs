//! Cancel requests: from a client's key to the server that runs its query.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::key::{ClientId, ServerId};
use crate::pool::Pool;
use crate::server::{CloseReason, Server, cancel};

/// How often a waiting cancel request looks for its turn.
const TURN: Duration = Duration::from_millis(100);

/// A cancel request on its way: at most twice pool_size of them in a pool.
struct Carrier<'a>(&'a Pool);

impl<'a> Carrier<'a> {
    fn try_new(pool: &'a Pool) -> Option<Self> {
        let most = pool.settings().pool_size.map(|size| size.saturating_mul(2));
        let order = Ordering::SeqCst;
        pool.shared
            .carriers
            .fetch_update(order, order, |count| {
                most.is_none_or(|most| count < most).then_some(count + 1)
            })
            .ok()?;
        pool.cancels_active.set(pool.cancels_active.get() + 1);
        Some(Self(pool))
    }
}

impl Drop for Carrier<'_> {
    fn drop(&mut self) {
        self.0.shared.carriers.fetch_sub(1, Ordering::SeqCst);
        self.0.cancels_active.set(self.0.cancels_active.get() - 1);
    }
}

impl Pool {
    /// Stops the query that a client has running now; nothing else, whatever happens meanwhile.
    pub async fn cancel(self: &Rc<Self>, client: ClientId, wait_max: Option<Duration>) {
        let Some((place, server)) = self.server_of(client) else {
            return;
        };
        let Some(key) = server.facts.key.clone() else {
            return;
        };
        let epoch = server.epoch.get();
        // Before it relays, the server may be busy with the client's parameters.
        let still_meant = || {
            server.epoch.get() == epoch
                && server.link.get() == Some(client.0)
                && server.relays.get()
        };
        if !still_meant() {
            return;
        }
        let Some(_carrier) = self.carrier(wait_max).await else {
            tracing::info!("{} closing because: cancel_wait_timeout", self.shared.key);
            return;
        };
        let options = self.local.tcp.borrow().clone();
        let limit = self.settings().server_connect_timeout;
        let conn = match cancel::connect(&server.facts, &options, limit).await {
            Ok(conn) => conn,
            Err(error) => {
                tracing::warn!(name: "cancel_failed", "{}: cancel request failed: {error}", self.tag(&server));
                return;
            }
        };
        // From here to its landing the server is not lent to anybody else.
        if !still_meant() {
            return;
        }
        let landing = Landing::new(self, place, &server);
        if let Err(error) = cancel::land(conn, &key, limit).await {
            tracing::warn!(name: "cancel_failed", "{}: cancel request failed: {error}", self.tag(&server));
            server.doubt.set(Some(CloseReason::CancelAstray));
        }
        drop(landing);
    }

    async fn carrier(&self, wait_max: Option<Duration>) -> Option<Carrier<'_>> {
        if let Some(carrier) = Carrier::try_new(self) {
            return Some(carrier);
        }
        let waiting = Counted::new(&self.cancels_waiting);
        let turn = async {
            loop {
                events::time::sleep(TURN).await;
                if let Some(carrier) = Carrier::try_new(self) {
                    return carrier;
                }
            }
        };
        let carrier = match wait_max {
            Some(limit) => events::time::timeout(limit, turn).await.ok(),
            None => Some(turn.await),
        };
        drop(waiting);
        carrier
    }
}

/// A cancel request that was sent and has not landed yet.
struct Landing<'a> {
    pool: &'a Rc<Pool>,
    place: ServerId,
    server: &'a Rc<Server>,
}

impl<'a> Landing<'a> {
    fn new(pool: &'a Rc<Pool>, place: ServerId, server: &'a Rc<Server>) -> Self {
        server.cancels.set(server.cancels.get() + 1);
        Self {
            pool,
            place,
            server,
        }
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.server.cancels.set(self.server.cancels.get() - 1);
        self.pool.cancels_landed(self.place, self.server);
    }
}

/// Counts itself for as long as it lives.
struct Counted<'a>(&'a std::cell::Cell<usize>);

impl<'a> Counted<'a> {
    fn new(count: &'a std::cell::Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
