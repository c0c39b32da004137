//! The clients: what they do, and whether each got its own answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use testkit::Pooler;
use tokio::task::JoinSet;
use tokio_postgres::{Client, SimpleQueryMessage, types::Type};

use crate::{
    failure::{Failure, in_full},
    stage::{DATABASES, PASSWORD, Stage, USER},
};

/// All clients at work.
pub(crate) struct Load {
    clients: JoinSet<Client>,
    // Connected until the end, so that the console can show them.
    resting: Vec<Client>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    enough: AtomicBool,
    done: Mutex<Done>,
}

/// What has been done so far.
#[derive(Clone, Default)]
pub(crate) struct Done {
    pub(crate) transactions: u64,
    pub(crate) failed: u64,
    first_failure: Option<String>,
    updates: BTreeMap<&'static str, u64>,
}

impl Load {
    /// Logs all clients in, then sets them to work together.
    pub(crate) async fn start(stage: &Stage) -> Result<Self, Failure> {
        let shared = Arc::<Shared>::default();
        let mut ready = Vec::new();
        for database in &DATABASES {
            for number in 0..database.clients {
                let client = log_in(&stage.pooler, database.name, number).await?;
                let shared = shared.clone();
                ready.push((
                    Worker {
                        database: database.name,
                        number,
                        shared,
                    },
                    client,
                ));
            }
        }
        let clients = ready
            .into_iter()
            .map(|(worker, client)| worker.work(client))
            .collect();
        Ok(Self {
            clients,
            resting: Vec::new(),
            shared,
        })
    }

    /// Lets everybody finish the transaction at hand.
    pub(crate) async fn stop(&mut self) {
        self.shared.enough.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            self.resting.extend(client);
        }
    }

    pub(crate) fn done(&self) -> Done {
        self.shared
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Has everything worked, and is each committed update in the table?
    pub(crate) async fn verify(&self, stage: &Stage) -> Result<(), Failure> {
        let done = self.done();
        if let Some(first) = done.first_failure {
            return Err(Failure::Transactions {
                failed: done.failed,
                first,
            });
        }
        for database in DATABASES.map(|it| it.name) {
            let committed = done.updates.get(database).copied().unwrap_or(0);
            if committed == 0 {
                return Err(Failure::Nothing { database });
            }
            let admin = stage.postgres.admin_client_in(database).await;
            let sum = "SELECT sum(n)::bigint FROM visits";
            let found: i64 = admin
                .query_one(sum, &[])
                .await
                .map_err(Failure::Look)?
                .get(0);
            if u64::try_from(found) != Ok(committed) {
                return Err(Failure::Lost {
                    database,
                    committed,
                    found,
                });
            }
        }
        Ok(())
    }
}

async fn log_in(pooler: &Pooler, database: &str, client: usize) -> Result<Client, Failure> {
    let login = pooler.try_connect(USER, PASSWORD, database).await;
    login.map_err(|cause| Failure::Login { client, cause })
}

/// One client at its work.
struct Worker {
    database: &'static str,
    number: usize,
    shared: Arc<Shared>,
}

impl Worker {
    async fn work(self, client: Client) -> Client {
        for round in 0_u64.. {
            if self.shared.enough.load(Ordering::Relaxed) {
                break;
            }
            // Every third visit writes; the others only look.
            let outcome = match round % 3 {
                0 => self.visit(&client, round).await.map(|()| Kind::Update),
                1 => self.ask_simple(&client, round).await.map(|()| Kind::Look),
                _ => self.ask_extended(&client, round).await.map(|()| Kind::Look),
            };
            if let Err(Break::Closed) = self.count(outcome) {
                break;
            }
        }
        client
    }

    /// Reads and writes in one transaction, which must stay with one server.
    async fn visit(&self, client: &Client, round: u64) -> Result<(), Trouble> {
        let tag = self.tag(round);
        let number = self.number;
        client.simple_query("BEGIN").await?;
        let look = format!("SELECT '{tag}', pg_backend_pid()");
        let looked = one_row(&client.simple_query(&look).await?)?;
        let write = format!(
            "UPDATE visits SET n = n + 1 WHERE client = {number} RETURNING '{tag}', pg_backend_pid()"
        );
        let wrote = one_row(&client.simple_query(&write).await?)?;
        client.simple_query("COMMIT").await?;
        expect_tag(&tag, &looked[0])?;
        if looked != wrote {
            return Err(Trouble::Wrong {
                expected: looked.join(" "),
                got: wrote.join(" "),
            });
        }
        Ok(())
    }

    async fn ask_simple(&self, client: &Client, round: u64) -> Result<(), Trouble> {
        let tag = self.tag(round);
        let answer = client.simple_query(&format!("SELECT '{tag}', 1")).await?;
        expect_tag(&tag, &one_row(&answer)?[0])
    }

    async fn ask_extended(&self, client: &Client, round: u64) -> Result<(), Trouble> {
        let tag = self.tag(round);
        let rows = client
            .query_typed("SELECT $1", &[(&tag, Type::TEXT)])
            .await?;
        let got = rows.first().map_or("no row", |row| row.get::<_, &str>(0));
        expect_tag(&tag, got)
    }

    /// Nobody else's answer looks like this.
    fn tag(&self, round: u64) -> String {
        format!("{}-{}-{round}", self.database, self.number)
    }

    fn count(&self, outcome: Result<Kind, Trouble>) -> Result<(), Break> {
        let mut done = self
            .shared
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let trouble = match outcome {
            Ok(kind) => {
                done.transactions += 1;
                if let Kind::Update = kind {
                    *done.updates.entry(self.database).or_default() += 1;
                }
                return Ok(());
            }
            Err(trouble) => trouble,
        };
        done.failed += 1;
        done.first_failure.get_or_insert(trouble.to_string());
        match trouble {
            Trouble::Driver(error) if error.is_closed() => Err(Break::Closed),
            _ => Ok(()),
        }
    }
}

enum Kind {
    Update,
    Look,
}

/// Why a client cannot go on.
enum Break {
    Closed,
}

/// Why a transaction counts as failed.
enum Trouble {
    Driver(tokio_postgres::Error),
    NoRow,
    Wrong { expected: String, got: String },
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Driver(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Driver(error) => f.write_str(&in_full(error)),
            Self::NoRow => f.write_str("a query that has one row got none"),
            Self::Wrong { expected, got } => {
                write!(f, "somebody else's answer: {got:?} instead of {expected:?}")
            }
        }
    }
}

fn expect_tag(expected: &str, got: &str) -> Result<(), Trouble> {
    if expected == got {
        return Ok(());
    }
    Err(Trouble::Wrong {
        expected: expected.to_owned(),
        got: got.to_owned(),
    })
}

/// The two values of the first row.
fn one_row(answer: &[SimpleQueryMessage]) -> Result<[String; 2], Trouble> {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or(Trouble::NoRow)?;
    Ok([0, 1].map(|column| row.get(column).unwrap_or("NULL").to_owned()))
}
