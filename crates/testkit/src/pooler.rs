//! The program under test: pgusher, or any other pooler that reads a pgbouncer.ini.

mod console;
mod setup;

use std::{fs, path::Path, process::ExitStatus, sync::Arc};

use nix::sys::signal::Signal;
use tokio_postgres::{Client, Config};

pub use console::{Console, Row};
pub use setup::{Exit, PoolerSetup};

use crate::{
    address::Address, http::Page, port::Port, postgres::open, process::Process, scratch::Scratch,
};

/// A running pooler.
pub struct Pooler {
    setup: PoolerSetup,
    // Before the directory it lives in.
    process: Process,
    port: Port,
    scratch: Arc<Scratch>,
}

impl Pooler {
    /// pgusher as it was built with this test, to be configured.
    pub fn setup() -> PoolerSetup {
        PoolerSetup::default()
    }

    /// That program, to be configured.
    pub fn binary(path: impl AsRef<Path>) -> PoolerSetup {
        PoolerSetup::default().binary(path)
    }

    /// Its port, for TCP and in the name of its unix socket.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Its TCP address.
    pub fn address(&self) -> Address {
        Address::local(self.port())
    }

    /// Its unix socket.
    pub fn unix_address(&self) -> Address {
        Address::in_dir(self.dir(), self.port())
    }

    /// The port of its HTTP endpoint, which it was set up with.
    pub fn metrics_port(&self) -> u16 {
        let port = self.setup.metrics.as_ref();
        port.expect("a pooler with metrics").number
    }

    /// A page of its HTTP endpoint.
    pub async fn page(&self, path: &str) -> Page {
        Page::get(self.metrics_port(), path).await
    }

    /// Where its files and its unix socket are.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// A connection string over TCP.
    pub fn conn_str(&self, user: &str, database: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user={user} dbname={database}",
            self.port()
        )
    }

    /// A client's session over TCP.
    pub async fn connect(&self, user: &str, password: &str, database: &str) -> Client {
        let connecting = self.try_connect(user, password, database);
        connecting
            .await
            .unwrap_or_else(|error| panic!("{user} to {database}: {error:?}"))
    }

    /// A client's session over TCP, or why there is none.
    pub async fn try_connect(
        &self,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port());
        open(config.user(user).password(password).dbname(database)).await
    }

    /// An administrator's session at the console.
    pub async fn console(&self) -> Console {
        let (user, password) = self.setup.console_login();
        Console::new(self.connect(user, password, "pgbouncer").await)
    }

    /// Changes the configuration, writes it, and has the console RELOAD it.
    pub async fn reload(&mut self, change: impl FnOnce(PoolerSetup) -> PoolerSetup) {
        self.rewrite(change);
        self.console().await.run("RELOAD").await;
    }

    /// Changes the configuration and writes it, without a word to the process.
    pub fn rewrite(&mut self, change: impl FnOnce(PoolerSetup) -> PoolerSetup) {
        self.setup = change(self.setup.clone());
        let written = self.setup.write(&self.scratch, self.port());
        written.unwrap_or_else(|error| panic!("{error}"));
    }

    /// All that it has written to its log so far.
    pub fn log(&self) -> String {
        self.process.log.text()
    }

    /// How many log lines contain the text.
    pub fn log_count(&self, text: &str) -> usize {
        self.process.log.count(text)
    }

    /// Waits until a log line contains the text, and returns that line.
    pub async fn wait_for_log(&self, text: &str) -> String {
        self.process.log.wait_for(text, 1).await
    }

    /// Waits until so many log lines contain the text, and returns the last of them.
    pub async fn wait_for_log_count(&self, text: &str, count: usize) -> String {
        self.process.log.wait_for(text, count).await
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Has it ended?
    pub fn is_running(&mut self) -> bool {
        self.process.exit().is_none()
    }

    /// Waits until it ends by itself.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        self.process.wait_exit().await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its resident memory in bytes.
    pub fn rss(&self) -> u64 {
        self.process.rss()
    }

    /// The clock ticks of CPU that it has used, over all threads.
    pub fn cpu_ticks(&self) -> u64 {
        self.process.cpu_ticks()
    }

    /// How many descriptors it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.process.log.show_if_panicking("the pooler");
    }
}
