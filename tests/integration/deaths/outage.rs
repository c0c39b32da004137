//! PostgreSQL itself goes and comes back, under load.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use testkit::{FakeClient, Message, Pooler, Postgres, eventually};

use crate::support::{WORKERS, before_postgres, client, postgres};

/// Clients who ask without a pause, and log in again whenever they are thrown out.
struct Crowd {
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn of(count: usize, pooler: &Pooler) -> Self {
        let (answered, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let address = pooler.address();
        let clients = (0..count).map(|number| {
            let (answered, over, address) = (answered.clone(), over.clone(), address.clone());
            tokio::spawn(async move {
                let mut refusals = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let client = FakeClient::connect(&address).await;
                    refusals.extend(session(client, number, &answered, &over).await);
                }
                refusals
            })
        });
        let clients = clients.collect();
        Self {
            answered,
            over,
            clients,
        }
    }

    /// Waits until so many more queries are answered.
    async fn goes_on(&self, queries: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + queries;
        eventually("the crowd to be served", || {
            self.answered.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    /// Ends it, and returns what its clients were refused with.
    async fn ends(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut refusals = Vec::new();
        for client in self.clients {
            refusals.extend(client.await.unwrap());
        }
        refusals
    }
}

/// One session, to its end: the last errors it was told.
async fn session(
    mut client: FakeClient,
    number: usize,
    answered: &AtomicUsize,
    over: &AtomicBool,
) -> Option<String> {
    client
        .startup(&[("user", "alice"), ("database", "app")])
        .await;
    let own = format!("client {number}");
    let mut asked = false;
    let mut error = None;
    loop {
        let Some(message) = client.try_read().await else {
            return Some(error.unwrap_or_else(|| "closed without a word".to_owned()));
        };
        match message.tag {
            b'Z' if over.load(Ordering::Relaxed) => {
                client.close().await;
                return None;
            }
            b'Z' => {
                answered.fetch_add(usize::from(asked), Ordering::Relaxed);
                asked = true;
                if client
                    .try_send_raw(&Message::query(&format!("SELECT '{own}'")).encode())
                    .await
                    .is_err()
                {
                    return None;
                }
            }
            b'D' => assert_eq!(message.values(), Some(vec![Some(own.clone())])),
            b'E' => {
                error = message
                    .error_fields()
                    .map(|fields| fields.text().to_owned())
            }
            _ => {}
        }
    }
}

/// Has PostgreSQL go in one way and come back, under load; the crowd hears clear words only.
async fn survives(fall: impl AsyncFn(&mut Postgres), expected: &[&str]) {
    let mut postgres = postgres().await;
    let crashed = "ErrorResponse FATAL 08P01: server conn crashed?";
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 5)
            .set("server_login_retry", 1)
            .start()
            .await;
        let crowd = Crowd::of(20, &pooler);
        let mut holder = client(&pooler, "alice").await;
        holder.query("BEGIN").await;
        crowd.goes_on(200).await;

        fall(&mut postgres).await;
        postgres.start_again().await;
        crowd.goes_on(200).await;

        let told = holder.expect_closed().await;
        assert_eq!(
            told.last().map(Message::to_string).as_deref(),
            Some(crashed)
        );
        for refusal in crowd.ends().await {
            let known = expected.iter().any(|known| refusal.starts_with(known));
            assert!(known, "{refusal:?} is not among {expected:?}");
        }
        assert!(postgres.sessions_of("alice").await <= 5);
    }
}

const CRASH: [&str; 2] = [
    "server conn crashed?",
    "server login has been failing, cached error: ",
];

#[tokio::test]
async fn after_a_kill_of_postgresql_service_resumes_by_itself() {
    survives(async |postgres| postgres.kill_9().await, &CRASH).await;
}

#[tokio::test]
async fn after_an_immediate_stop_of_postgresql_service_resumes_by_itself() {
    survives(async |postgres| postgres.stop_immediate().await, &CRASH).await;
}

#[tokio::test]
async fn after_a_fast_stop_of_postgresql_service_resumes_by_itself() {
    survives(async |postgres| postgres.stop_fast().await, &CRASH).await;
}
