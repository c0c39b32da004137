//! A real Prometheus, made for one test and gone with it; and its tool.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
};

use tokio::time::{Instant, sleep};

use crate::{
    account::Account,
    eventually::{GLANCE, PATIENCE},
    http::Page,
    log::Log,
    port::Port,
    process::Process,
    scratch::Scratch,
    start_error::StartError,
};

/// A throw-away Prometheus that scrapes one port of this machine every second.
pub struct Prometheus {
    // Before the directory it lives in.
    process: Process,
    port: Port,
}

impl Prometheus {
    /// Starts one that scrapes this port, and waits until it is ready.
    pub async fn start(scraped: u16) -> Self {
        Self::try_start(scraped)
            .await
            .unwrap_or_else(|error| panic!("{error} (is prometheus installed? make test does)"))
    }

    async fn try_start(scraped: u16) -> Result<Self, StartError> {
        let scratch = Scratch::new("prometheus").map_err(StartError::io("making a directory"))?;
        let config = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs: [{{job_name: pgusher, \
             static_configs: [{{targets: ['127.0.0.1:{scraped}']}}]}}]\n"
        );
        let written = scratch.write("prometheus.yml", &config);
        written.map_err(StartError::io("writing prometheus.yml"))?;
        let port = Port::claim()?;
        let mut command = Account::for_servers().command("prometheus");
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{}", port.number));
        let mut prometheus = Self {
            process: Process::spawn(&mut command, &Arc::new(scratch), Log::new())?,
            port,
        };
        let deadline = Instant::now() + PATIENCE;
        while !prometheus.is_ready().await {
            if let Some(error) = prometheus.process.early_exit() {
                return Err(error);
            }
            if Instant::now() > deadline {
                return Err(prometheus.process.silent());
            }
            sleep(GLANCE).await;
        }
        Ok(prometheus)
    }

    async fn is_ready(&self) -> bool {
        let asked = "GET /-/ready HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        let page = Page::try_ask(self.port.number, asked).await;
        page.is_ok_and(|page| page.status == 200)
    }

    /// What it answers to an expression: the JSON of its API.
    pub async fn query(&self, expression: &str) -> String {
        let encoded: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let asked = format!(
            "GET /api/v1/query?query={encoded} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        );
        Page::ask(self.port.number, &asked).await.body
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.log.show_if_panicking("Prometheus");
    }
}

/// Runs `promtool` with these arguments and this input; returns whether it was content, and what
/// it said.
pub fn promtool(args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error} (make test installs it)"));
    let mut stdin = child.stdin.take().expect("it was piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("promtool ends");
    // Who complains may not have read it all.
    let _ = writer.join();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}
