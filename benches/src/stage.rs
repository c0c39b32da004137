//! The PostgreSQL that all share, and the starting of poolers before it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use testkit::{Pooler, PoolerSetup, Postgres};

use crate::{
    door::{Door, Papers},
    failure::Failure,
    programs::{Programs, on_path},
    session::NAME,
    subject::{Program, Subject},
    work::Work,
};

/// Where it all happens.
pub(crate) struct Stage {
    postgres: Postgres,
    programs: Programs,
    papers: Papers,
}

/// A subject that clients can talk to.
pub(crate) enum Running {
    /// Through this pooler.
    Pooler(Box<Pooler>),
    /// PostgreSQL itself, at this address.
    Direct(SocketAddr),
}

/// What poolers are told, the same for all of them.
pub(crate) const INI: &[(&str, &str)] = &[
    ("pool_mode", "transaction"),
    ("default_pool_size", "20"),
    ("max_client_conn", "12000"),
    // Lines for each client would go through our pipe: we measure logins, not logs.
    ("log_connections", "0"),
    ("log_disconnections", "0"),
];

/// Where callgrind leaves its counts, in the pooler's directory.
pub(crate) const COUNTS: &str = "callgrind.out";

impl Stage {
    /// Starts PostgreSQL and looks for the poolers.
    pub(crate) async fn open(pgusher: &Path) -> Result<Self, Failure> {
        let programs = Programs::gather(pgusher)?;
        let postgres = Postgres::setup().max_connections(300).try_start().await?;
        postgres.create_trusted_user(NAME).await;
        postgres.create_database(NAME).await;
        postgres.run_in(NAME, Work::TABLES).await;
        let papers = Papers::new();
        Ok(Self {
            postgres,
            programs,
            papers,
        })
    }

    /// Starts a subject.
    pub(crate) async fn start(&self, subject: Subject, door: Door) -> Result<Running, Failure> {
        Ok(match subject {
            Subject::Pooler(program) => {
                Running::Pooler(Box::new(self.start_pooler(program, door).await?))
            }
            Subject::Direct => Running::Direct(local(self.postgres.port())),
        })
    }

    /// Starts a pooler.
    pub(crate) async fn start_pooler(
        &self,
        program: Program,
        door: Door,
    ) -> Result<Pooler, Failure> {
        let setup = self.setup(program, door, Pooler::binary(self.path(program)));
        Ok(setup.try_start().await?)
    }

    /// Starts a pooler that tells its metrics.
    pub(crate) async fn start_with_metrics(&self, program: Program) -> Result<Pooler, Failure> {
        let setup = Pooler::binary(self.path(program)).metrics();
        Ok(self.setup(program, Door::Trust, setup).try_start().await?)
    }

    /// Starts a pooler whose user instructions are counted; [`COUNTS`] holds them at its end.
    pub(crate) async fn start_counted(&self, program: Program) -> Result<Pooler, Failure> {
        let valgrind = on_path("valgrind", "make bench-setup installs it")?;
        let counted = Pooler::binary(valgrind)
            .arg("--tool=callgrind")
            .arg(&format!("--callgrind-out-file={{dir}}/{COUNTS}"))
            .arg(&self.path(program).to_string_lossy());
        Ok(self
            .setup(program, Door::Trust, counted)
            .try_start()
            .await?)
    }

    /// How many rows ever arrived by COPY FROM STDIN.
    pub(crate) async fn rows_arrived(&self) -> Result<u64, Failure> {
        let admin = self.postgres.admin_client_in(NAME).await;
        let row = admin.query_one("SELECT last_value FROM arrived", &[]).await;
        let unreadable = |error| Failure::Unreadable(format!("sequence arrived: {error}"));
        let count: i64 = row.map_err(unreadable)?.get(0);
        Ok(count.unsigned_abs())
    }

    /// What the programs call themselves.
    pub(crate) async fn versions(&self) -> Vec<String> {
        let admin = self.postgres.admin_client().await;
        let postgres = match admin.query_one("SHOW server_version", &[]).await {
            Ok(row) => format!("PostgreSQL {}", row.get::<_, &str>(0)),
            Err(error) => format!("PostgreSQL, version unknown: {error}"),
        };
        vec![
            self.programs.pgbouncer_version(),
            self.programs.pgusher_version(),
            postgres,
        ]
    }

    /// The same ini for all; the number of workers is not in it.
    fn setup(&self, program: Program, door: Door, setup: PoolerSetup) -> PoolerSetup {
        let conn_info = self.postgres.conn_info(NAME);
        let setup = door.furnish(setup.database(NAME, &conn_info), NAME, &self.papers);
        let setup = (INI.iter()).fold(setup, |setup, (name, value)| setup.set(name, value));
        match program {
            Program::Pgusher { workers } => setup.env("PGUSHER_WORKERS", &workers.to_string()),
            Program::PgBouncer => match self.programs.pgbouncer_libraries() {
                Some(dir) => setup.env("LD_LIBRARY_PATH", &dir.to_string_lossy()),
                None => setup,
            },
        }
    }

    fn path(&self, program: Program) -> PathBuf {
        match program {
            Program::PgBouncer => self.programs.pgbouncer(),
            Program::Pgusher { .. } => self.programs.pgusher(),
        }
    }
}

impl Running {
    /// Where its clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Pooler(pooler) => local(pooler.port()),
            Self::Direct(address) => *address,
        }
    }

    /// The clock ticks of CPU that the pooler has used; none if there is none.
    pub(crate) fn cpu_ticks(&self) -> Option<u64> {
        match self {
            Self::Pooler(pooler) => Some(pooler.cpu_ticks()),
            Self::Direct(_) => None,
        }
    }
}

/// A port on this machine.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
