//! Tills: clients who ring up sales without a pause, each in a transaction, and say what went wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::{Address, FakeClient, Message, Postgres, eventually};
use tokio::task::JoinHandle;

/// The tills of a shop, at work.
pub(crate) struct Tills {
    sold: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Trouble>>>,
}

/// How long a till stays connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// For one sale, like `pgbench -C`.
    OneSale,
    /// As long as it may.
    Long,
}

/// What went wrong, and what was said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nobody listened, or nobody took the connection in.
    Refused,
    /// The connection was taken, but the login came to nothing.
    Login(String),
    /// It was told to go before a sale began.
    Dismissed(String),
    /// It was stopped within a sale.
    Sale(String),
}

impl Tills {
    /// Makes room for sales in the database `app`.
    pub(crate) async fn prepare(postgres: &Postgres) {
        let sql = "CREATE TABLE sales (till int); GRANT ALL ON sales TO PUBLIC";
        postgres.run_in("app", sql).await;
    }

    /// Opens so many tills, of alice's.
    pub(crate) fn open(count: usize, address: &Address, stay: Stay) -> Self {
        let (sold, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let clients = (0..count).map(|till| {
            let (sold, over, address) = (sold.clone(), over.clone(), address.clone());
            tokio::spawn(async move {
                let mut troubles = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let visit = visit(&address, till, stay, &sold, &over);
                    troubles.extend(visit.await.err());
                }
                troubles
            })
        });
        Self {
            clients: clients.collect(),
            sold,
            over,
        }
    }

    /// How many sales are known to be done.
    pub(crate) fn sold(&self) -> usize {
        self.sold.load(Ordering::SeqCst)
    }

    /// Waits until so many more sales are done.
    pub(crate) async fn sell(&self, sales: usize) {
        let goal = self.sold() + sales;
        eventually("sales", || self.sold() >= goal).await;
    }

    /// Closes the tills. What PostgreSQL has must be what they sold.
    pub(crate) async fn close(self, postgres: &Postgres) -> Vec<Trouble> {
        self.over.store(true, Ordering::Relaxed);
        let mut troubles = Vec::new();
        for client in self.clients {
            troubles.extend(client.await.unwrap());
        }
        let admin = postgres.admin_client_in("app").await;
        let count = admin.query_one("SELECT count(*) FROM sales", &[]).await;
        let count: i64 = count.unwrap().get(0);
        assert_eq!(
            usize::try_from(count).unwrap(),
            self.sold.load(Ordering::SeqCst)
        );
        admin.batch_execute("TRUNCATE sales").await.unwrap();
        troubles
    }
}

async fn visit(
    address: &Address,
    till: usize,
    stay: Stay,
    sold: &AtomicUsize,
    over: &AtomicBool,
) -> Result<(), Trouble> {
    let Ok(mut client) = FakeClient::try_connect(address).await else {
        // Whoever takes over is here in a moment.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        return Err(Trouble::Refused);
    };
    let startup = testkit::startup_packet(&[("user", "alice"), ("database", "app")]);
    // If this fails, the answer tells why.
    let _ = client.try_send_raw(&startup).await;
    until_ready(&mut client)
        .await
        .map_err(|told| match &*told {
            // It stood in the queue of a listener that closed.
            SILENCE => Trouble::Refused,
            _ => Trouble::Login(told),
        })?;
    loop {
        ask(&mut client, "BEGIN")
            .await
            .map_err(Trouble::Dismissed)?;
        for sql in [&*format!("INSERT INTO sales VALUES ({till})"), "COMMIT"] {
            ask(&mut client, sql).await.map_err(Trouble::Sale)?;
        }
        sold.fetch_add(1, Ordering::SeqCst);
        if stay == Stay::OneSale || over.load(Ordering::Relaxed) {
            // Whoever was told to go meanwhile is gone.
            let _ = client.try_send_raw(&Message::terminate().encode()).await;
            return Ok(());
        }
    }
}

async fn ask(client: &mut FakeClient, sql: &str) -> Result<(), String> {
    // If this fails, the answer tells why.
    let _ = client.try_send_raw(&Message::query(sql).encode()).await;
    until_ready(client).await
}

async fn until_ready(client: &mut FakeClient) -> Result<(), String> {
    let mut error = None;
    while let Some(message) = client.try_read().await {
        match message.tag {
            b'Z' => return error.map_or(Ok(()), Err),
            b'E' => {
                let fields = message.error_fields().unwrap();
                error = Some(super::words(&fields));
            }
            _ => {}
        }
    }
    Err(error.unwrap_or_else(|| SILENCE.to_owned()))
}

/// What a client hears whose connection just ends.
const SILENCE: &str = "closed without a word";
