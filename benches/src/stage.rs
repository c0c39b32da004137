//! The PostgreSQL that all share, and the starting of poolers before it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use testkit::{Pooler, PoolerSetup, Postgres, client_program};

use crate::{
    door::{Door, Papers},
    failure::Failure,
    probe::pgbench,
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

/// Lines of an ini.
pub(crate) type Lines = &'static [(&'static str, &'static str)];

/// What poolers are told, the same for all of them.
pub(crate) const INI: Lines = &[
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
    /// As many clients PostgreSQL itself takes, beside those of the poolers.
    pub(crate) const SESSIONS: usize = 200;

    /// Starts PostgreSQL and looks for the poolers.
    pub(crate) async fn open(pgusher: &Path) -> Result<Self, Failure> {
        let programs = Programs::gather(pgusher)?;
        let postgres = Postgres::setup().max_connections(320).try_start().await?;
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
    pub(crate) async fn start(
        &self,
        subject: Subject,
        door: Door,
        lines: Lines,
    ) -> Result<Running, Failure> {
        Ok(match subject {
            Subject::Pooler(program) => {
                let setup = self.pooler(program, door);
                let told =
                    (lines.iter()).fold(setup, |setup, (name, value)| setup.set(name, value));
                Running::of(told).await?
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
        Ok(self.pooler(program, door).try_start().await?)
    }

    /// A pooler that may be told more.
    pub(crate) fn pooler(&self, program: Program, door: Door) -> PoolerSetup {
        self.setup(program, door, Pooler::binary(self.path(program)))
    }

    /// A connection string to the database of all clients.
    pub(crate) fn conn_info(&self) -> String {
        self.postgres.conn_info(NAME)
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

    /// Makes the tables of pgbench's own scripts.
    pub(crate) async fn fill_pgbench_tables(&self) -> Result<(), Failure> {
        let mut command = Command::new(client_program("pgbench"));
        command
            .args(["-i", "-q", "-I", "dtgp", "-U", "postgres"])
            .arg("-h")
            .arg(self.postgres.socket_dir())
            .args(["-p", &self.postgres.port().to_string(), NAME]);
        let made = pgbench::output(command).await?;
        if !made.status.success() {
            let complaint = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(Failure::Unreadable(format!("pgbench -i: {complaint}")));
        }
        let readable = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC";
        self.postgres.run_in(NAME, readable).await;
        Ok(())
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
    /// A pooler that was told more.
    pub(crate) async fn of(setup: PoolerSetup) -> Result<Self, Failure> {
        Ok(Self::Pooler(Box::new(setup.try_start().await?)))
    }

    /// Where its clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Pooler(pooler) => local(pooler.port()),
            Self::Direct(address) => *address,
        }
    }

    /// The pooler, if there is one.
    pub(crate) fn pooler(&self) -> Option<&Pooler> {
        match self {
            Self::Pooler(pooler) => Some(pooler),
            Self::Direct(_) => None,
        }
    }

    /// The clock ticks of CPU that the pooler has used; none if there is none.
    pub(crate) fn cpu_ticks(&self) -> Option<u64> {
        self.pooler().map(Pooler::cpu_ticks)
    }
}

/// A port on this machine.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
