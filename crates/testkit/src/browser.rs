//! A real browser without a screen, made for one test and gone with it.
//!
//! Chromium is told what to do over two named pipes, in its DevTools protocol: JSON, and a zero
//! byte after each message.

use std::{path::Path, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe::{OpenOptions, Receiver, Sender},
};

use crate::{
    account::Account,
    eventually::{eventually_async, in_time},
    log::Log,
    process::Process,
    scratch::Scratch,
};

/// Headless Chromium with one page.
pub struct Browser {
    orders: Sender,
    news: BufReader<Receiver>,
    session: Option<String>,
    last: u64,
    // Before the directory it lives in.
    process: Process,
}

/// The pipes are opened where Chromium looks for them.
const SCRIPT: &str = r#"exec chromium --headless=new --no-sandbox --disable-gpu \
    --disable-dev-shm-usage --no-first-run --disable-background-networking \
    --user-data-dir=profile --remote-debugging-pipe 3<orders 4>news"#;

impl Browser {
    /// Starts one, with an empty page.
    pub async fn start() -> Self {
        let scratch = Scratch::new("browser").expect("a directory");
        let account = Account::for_servers();
        for name in ["orders", "news"] {
            let path = scratch.path().join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
            account.own(&path).expect("a pipe of its own");
        }
        let dir = scratch.path().to_owned();
        // Both at once: whoever opens a pipe waits for the other end.
        let orders = OpenOptions::new()
            .read_write(true)
            .open_sender(dir.join("orders"))
            .expect("a pipe to write to");
        let news = OpenOptions::new()
            .read_write(true)
            .open_receiver(dir.join("news"))
            .expect("a pipe to read from");
        let mut command = account.command("sh");
        command.args(["-c", SCRIPT]).env("HOME", &dir);
        let process = Process::spawn(&mut command, &Arc::new(scratch), Log::new());
        let mut browser = Self {
            orders,
            news: BufReader::new(news),
            session: None,
            last: 0,
            process: process.unwrap_or_else(|error| panic!("{error}")),
        };
        let about = json!({"url": "about:blank"});
        let target = browser.tell("Target.createTarget", about).await;
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.tell("Target.attachToTarget", target).await;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        browser
    }

    /// Opens a page, and waits until all of it is there.
    pub async fn open(&mut self, url: &str) {
        let gone = self.tell("Page.navigate", json!({"url": url})).await;
        assert_eq!(gone["errorText"], Value::Null, "{url}: {gone}");
        let is_there = "location.href !== 'about:blank' && document.readyState === 'complete'";
        self.wait_until(is_there).await;
    }

    /// What an expression of JavaScript is worth on the page.
    pub async fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.tell("Runtime.evaluate", asked).await;
        let failed = &answer["exceptionDetails"];
        assert_eq!(*failed, Value::Null, "{expression}: {failed}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true on the page.
    pub async fn wait_until(&mut self, expression: &str) {
        eventually_async(expression, async || self.value(expression).await == true).await;
    }

    /// Gives the window a size, in the colours that its owner prefers: `light` or `dark`.
    pub async fn resize(&mut self, width: u32, height: u32, colours: &str) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.tell("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": colours}]});
        self.tell("Emulation.setEmulatedMedia", scheme).await;
    }

    /// Takes a picture of the page.
    pub async fn picture(&mut self, file: &Path) {
        let taken = self.tell("Page.captureScreenshot", json!({})).await;
        let data = taken["data"].as_str().expect("a picture");
        let data = BASE64_STANDARD.decode(data).expect("base64");
        std::fs::write(file, data).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Has something done, and returns what came of it.
    async fn tell(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut order = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        let mut order = order.to_string().into_bytes();
        order.push(0);
        let said = self.orders.write_all(&order).await;
        said.unwrap_or_else(|error| panic!("{method}: {error}"));
        in_time(method, self.answer(method)).await
    }

    async fn answer(&mut self, method: &str) -> Value {
        loop {
            let mut message = Vec::new();
            let read = self.news.read_until(0, &mut message).await;
            assert!(
                read.is_ok_and(|len| len > 0),
                "{method}: the browser is gone"
            );
            message.pop();
            let message: Value = serde_json::from_slice(&message).expect("JSON");
            if message["id"] == self.last {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].clone();
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.log.show_if_panicking("Chromium");
    }
}
