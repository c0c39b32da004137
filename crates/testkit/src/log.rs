//! What a process has written so far, readable while it writes.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::watch;

use crate::eventually::PATIENCE;

/// The lines of a process, in the order they came.
#[derive(Clone)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    written: Arc<watch::Sender<usize>>,
}

/// More lines than this and the oldest half is forgotten.
const LINES_MAX: usize = 200_000;

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            lines: Arc::default(),
            written: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Follows a pipe to its end, on a thread of its own so that nothing waits for the test.
    pub(crate) fn follow(&self, pipe: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let log = self.clone();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                log.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        })
    }

    fn push(&self, line: String) {
        let mut lines = self.lines();
        if lines.len() >= LINES_MAX {
            lines.drain(..LINES_MAX / 2);
        }
        lines.push(line);
        drop(lines);
        self.written.send_modify(|written| *written += 1);
    }

    /// All lines so far.
    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Adds the last lines to what a failed test prints.
    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it with the failure"
    )]
    pub(crate) fn show_if_panicking(&self, name: &str) {
        const SHOWN: usize = 60;
        if thread::panicking() {
            let lines = self.lines();
            let tail = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            eprintln!("--- the last that {name} wrote\n{tail}");
        }
    }

    /// How many lines contain the text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Waits until `count` lines contain the text, and returns the last of these.
    pub(crate) async fn wait_for(&self, text: &str, count: usize) -> String {
        let mut written = self.written.subscribe();
        let arrives = async {
            loop {
                written.borrow_and_update();
                let found = self
                    .lines()
                    .iter()
                    .filter(|line| line.contains(text))
                    .nth(count - 1)
                    .cloned();
                match found {
                    Some(line) => return line,
                    // The sender is ours, so it cannot be gone.
                    None => written
                        .changed()
                        .await
                        .expect("the log outlives its readers"),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, arrives).await {
            Ok(line) => line,
            Err(_) => panic!("{text:?} not in the log ({count} wanted):\n{}", self.text()),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
