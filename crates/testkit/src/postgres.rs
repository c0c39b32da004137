//! A real PostgreSQL, made for one test and gone with it.

mod setup;
mod template;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Config, NoTls};

pub use setup::PostgresSetup;

use crate::{
    account::Account,
    address::Address,
    eventually::{GLANCE, PATIENCE, eventually, in_time},
    port::Port,
    process::{Process, children, has_ended, signal_pid},
    scratch::Scratch,
    start_error::StartError,
};

/// A throw-away PostgreSQL. Over TCP it asks for SCRAM; over its unix socket the superuser
/// `postgres` gets in without a password, so that the test can look inside.
pub struct Postgres {
    setup: PostgresSetup,
    // Before the directory it lives in.
    process: Process,
    port: Port,
    scratch: Arc<Scratch>,
    frozen: Vec<u32>,
}

const READY: &str = "database system is ready to accept connections";

impl Postgres {
    /// A server to be configured.
    pub fn setup() -> PostgresSetup {
        PostgresSetup::default()
    }

    /// A server as it comes.
    pub async fn start() -> Self {
        Self::setup().start().await
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Its TCP address.
    pub fn address(&self) -> Address {
        Address::local(self.port())
    }

    /// The directory of its unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.scratch.path()
    }

    /// A connection string for a pooler's `[databases]`.
    pub fn conn_info(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={database}", self.port())
    }

    /// The same over the unix socket.
    pub fn unix_conn_info(&self, database: &str) -> String {
        format!(
            "host={} port={} dbname={database}",
            self.socket_dir().display(),
            self.port()
        )
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.process.log.text()
    }

    /// Waits until a log line contains the text, and returns that line.
    pub async fn wait_for_log(&self, text: &str) -> String {
        self.process.log.wait_for(text, 1).await
    }

    /// A superuser's session over the unix socket.
    pub async fn admin_client(&self) -> Client {
        self.admin_client_in("postgres").await
    }

    /// A superuser's session in that database.
    pub async fn admin_client_in(&self, database: &str) -> Client {
        let connecting = self.try_admin_client_in(database);
        connecting
            .await
            .unwrap_or_else(|error| panic!("superuser to {database}: {error}"))
    }

    /// A superuser's session in that database, or why there is none.
    pub async fn try_admin_client_in(
        &self,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config
            .host_path(self.socket_dir())
            .port(self.port())
            .user("postgres")
            .dbname(database);
        open(&config).await
    }

    /// A session over TCP, past all poolers.
    pub async fn connect(&self, user: &str, password: &str, database: &str) -> Client {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port());
        config.user(user).password(password).dbname(database);
        open(&config)
            .await
            .unwrap_or_else(|error| panic!("{user} to {database}: {error}"))
    }

    /// Runs SQL as superuser in the database `postgres`.
    pub async fn run(&self, sql: &str) {
        self.run_in("postgres", sql).await;
    }

    /// Runs SQL as superuser in that database.
    pub async fn run_in(&self, database: &str, sql: &str) {
        let admin = self.admin_client_in(database).await;
        admin
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// A user whose password is stored as `password_encryption` says.
    pub async fn create_user(&self, name: &str, password: &str) {
        let (role, password) = (identifier(name), literal(password));
        self.run(&format!("CREATE ROLE {role} LOGIN PASSWORD {password}"))
            .await;
    }

    /// A user whose password is stored as MD5, and who is asked for that over TCP.
    pub async fn create_md5_user(&self, name: &str, password: &str) {
        self.create_user(name, &crate::md5_secret(name, password))
            .await;
        self.prepend_hba(&format!("host all \"{name}\" 127.0.0.1/32 md5"))
            .await;
    }

    /// A user who is asked for the password in clear text.
    pub async fn create_plain_user(&self, name: &str, password: &str) {
        self.create_user(name, password).await;
        self.prepend_hba(&format!("host all \"{name}\" 127.0.0.1/32 password"))
            .await;
    }

    /// A user without a password, let in over TCP.
    pub async fn create_trusted_user(&self, name: &str) {
        self.run(&format!("CREATE ROLE {} LOGIN", identifier(name)))
            .await;
        self.prepend_hba(&format!("host all \"{name}\" 127.0.0.1/32 trust"))
            .await;
    }

    /// A database in which everybody may make tables.
    pub async fn create_database(&self, name: &str) {
        self.run(&format!("CREATE DATABASE {}", identifier(name)))
            .await;
        self.run_in(name, "GRANT ALL ON SCHEMA public TO PUBLIC")
            .await;
    }

    /// Puts a line before all others in pg_hba.conf, and returns when it holds.
    pub async fn prepend_hba(&self, line: &str) {
        let path = self.scratch.path().join("pg_hba.conf");
        let rules = std::fs::read_to_string(path).expect("pg_hba.conf, which we wrote");
        self.set_hba(&format!("{line}\n{rules}")).await;
    }

    /// Replaces pg_hba.conf, and returns when it holds.
    pub async fn set_hba(&self, rules: &str) {
        const READ: &str = "received SIGHUP, reloading configuration files";
        let before = self.process.log.count(READ);
        self.scratch
            .write("pg_hba.conf", rules)
            .expect("room for pg_hba.conf");
        signal_pid(self.process.pid(), Signal::SIGHUP);
        // The postmaster takes no new connection between this line and the new rules.
        self.process.log.wait_for(READ, before + 1).await;
    }

    /// How many sessions PostgreSQL itself counts for this user.
    pub async fn sessions_of(&self, user: &str) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        let admin = self.admin_client().await;
        admin
            .query_one(sql, &[&user])
            .await
            .expect("pg_stat_activity")
            .get(0)
    }

    /// Ends it as `pg_ctl stop -m immediate` does.
    pub async fn stop_immediate(&mut self) {
        self.process.signal(Signal::SIGQUIT);
        self.process.wait_exit().await;
    }

    /// Ends it as `pg_ctl stop -m fast` does: clients hear of it.
    pub async fn stop_fast(&mut self) {
        self.process.signal(Signal::SIGINT);
        self.process.wait_exit().await;
    }

    /// Kills it and all its sessions: nobody hears a word.
    pub async fn kill_9(&mut self) {
        let family = self.family();
        family
            .iter()
            .for_each(|&pid| signal_pid(pid, Signal::SIGKILL));
        self.process.wait_exit().await;
        // The next postmaster takes offence at what they still hold.
        eventually("the end of all sessions", || {
            family.iter().all(|&pid| has_ended(pid))
        })
        .await;
        self.forget_frozen();
    }

    /// Freezes it and all its sessions: sockets stay open, nothing answers.
    pub fn pause(&mut self) {
        self.frozen = self.family();
        for &pid in &self.frozen {
            self.scratch.guard(pid);
            signal_pid(pid, Signal::SIGSTOP);
        }
    }

    /// Lets it go on after [`Self::pause`].
    pub fn cont(&mut self) {
        self.frozen
            .iter()
            .for_each(|&pid| signal_pid(pid, Signal::SIGCONT));
        self.forget_frozen();
    }

    /// Starts it again on the same port with its old data.
    pub async fn start_again(&mut self) {
        let log = self.process.log.clone();
        let nth = log.count(READY) + 1;
        let started = self.setup.launch(self.port(), &self.scratch, log);
        self.process = started.unwrap_or_else(|error| panic!("{error}"));
        self.wait_ready(nth)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Stops it immediately and starts it again.
    pub async fn restart(&mut self) {
        self.stop_immediate().await;
        self.start_again().await;
    }

    /// Waits until it has said for the `nth` time that it is ready, and proves it.
    async fn wait_ready(&mut self, nth: usize) -> Result<(), StartError> {
        let deadline = Instant::now() + PATIENCE;
        while self.process.log.count(READY) < nth
            || self.try_admin_client_in("postgres").await.is_err()
        {
            if let Some(error) = self.process.early_exit() {
                return Err(error);
            }
            if Instant::now() > deadline {
                return Err(self.process.silent());
            }
            sleep(GLANCE).await;
        }
        Ok(())
    }

    /// The postmaster, which must be stopped first lest it start others, and its children.
    fn family(&self) -> Vec<u32> {
        let postmaster = self.process.pid();
        std::iter::once(postmaster)
            .chain(children(postmaster))
            .collect()
    }

    fn forget_frozen(&mut self) {
        let postmaster = self.process.pid();
        let sessions = self.frozen.drain(..).filter(|&pid| pid != postmaster);
        sessions.for_each(|pid| self.scratch.unguard(pid));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.cont();
        // An immediate shutdown takes milliseconds and leaves no shared memory behind.
        self.process.signal(Signal::SIGQUIT);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while self.process.exit().is_none() && std::time::Instant::now() < deadline {
            std::thread::sleep(GLANCE);
        }
        self.process.log.show_if_panicking("PostgreSQL");
    }
}

/// Opens a session, and drives it on a task of its own.
pub(crate) async fn open(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = in_time("a login", config.connect(NoTls)).await?;
    // Its errors reach the client's next query.
    tokio::spawn(connection);
    Ok(client)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// PostgreSQL refuses to run as root.
fn account() -> Account {
    Account::for_servers()
}
