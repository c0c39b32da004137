//! How a throw-away PostgreSQL is to be, and its first start.

use std::sync::Arc;

use super::{Postgres, account, template};
use crate::{
    binaries::postgres_dir, log::Log, port::Port, process::Process, scratch::Scratch,
    start_error::StartError,
};

/// A PostgreSQL to be configured.
#[derive(Clone)]
pub struct PostgresSetup {
    settings: Vec<(String, String)>,
    hba: String,
}

const HBA: &str = "\
local all postgres trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

/// Quick and small: nobody will miss the data after a crash of the machine.
const SETTINGS: [(&str, &str); 7] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "100"),
    ("shared_buffers", "8MB"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("autovacuum", "off"),
    ("password_encryption", "scram-sha-256"),
];

impl Default for PostgresSetup {
    fn default() -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            settings: SETTINGS.map(owned).into(),
            hba: HBA.to_owned(),
        }
    }
}

impl PostgresSetup {
    /// Any line of postgresql.conf.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// How many sessions it takes, the superuser's included.
    pub fn max_connections(self, count: u32) -> Self {
        self.set("max_connections", count)
    }

    /// Stores passwords as MD5 and asks for that.
    pub fn md5(self) -> Self {
        let hba = HBA.replace("scram-sha-256", "md5");
        self.set("password_encryption", "md5").hba(&hba)
    }

    /// The whole of pg_hba.conf.
    pub fn hba(mut self, rules: &str) -> Self {
        rules.clone_into(&mut self.hba);
        self
    }

    /// Starts it, and waits until it answers.
    pub async fn start(self) -> Postgres {
        self.try_start()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts it, and waits until it answers; or why it did not.
    pub async fn try_start(self) -> Result<Postgres, StartError> {
        const TRIES: u32 = 5;
        let scratch =
            Arc::new(Scratch::new("postgres").map_err(StartError::io("making a directory"))?);
        let data = scratch.path().join("data");
        // Blocking for a moment, or for the first initdb: nothing else runs in a test yet.
        template::copy_to(&data)?;
        scratch
            .write("pg_hba.conf", &self.hba)
            .map_err(StartError::io("writing pg_hba.conf"))?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.clone().first_start(&scratch).await {
                Err(error) if error.lost_its_port() && tries < TRIES => {}
                outcome => return outcome,
            }
        }
    }

    async fn first_start(self, scratch: &Arc<Scratch>) -> Result<Postgres, StartError> {
        let port = Port::claim()?;
        let process = self.launch(port.number, scratch, Log::new())?;
        let scratch = scratch.clone();
        let mut postgres = Postgres {
            setup: self,
            process,
            port,
            scratch,
            frozen: Vec::new(),
        };
        postgres.wait_ready(1).await?;
        Ok(postgres)
    }

    /// Starts the server process, and does not wait for it.
    pub(super) fn launch(
        &self,
        port: u16,
        scratch: &Arc<Scratch>,
        log: Log,
    ) -> Result<Process, StartError> {
        let dir = scratch.path();
        let mut command = account().command(postgres_dir()?.join("postgres"));
        command
            .arg("-D")
            .arg(dir.join("data"))
            .arg("-k")
            .arg(dir)
            .args(["-p", &port.to_string()]);
        command
            .arg("-c")
            .arg(format!("hba_file={}", dir.join("pg_hba.conf").display()));
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        Process::spawn(&mut command, scratch, log)
    }
}
