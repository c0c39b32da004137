//! Takes connections in and hands each to the worker with the fewest clients.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use net::Listener;
use net::listen::{ListenOptions, UnixMode, addresses};
use pool::server::login::socket_path;
use settings::Settings;
use tokio::task::JoinHandle;

use crate::process::{Counted, Process};
use crate::worker::WorkerMail;

/// Pause after a failed accept: mostly we are out of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// The listening sockets of the process.
pub(crate) struct Listeners {
    /// Whether the service manager gave them: then they are there after us, and so are those who
    /// connect meanwhile.
    given: bool,
    listeners: Vec<Rc<Listener>>,
    tcp: Vec<JoinHandle<()>>,
    unix: Vec<JoinHandle<()>>,
}

impl Listeners {
    /// Listens wherever the settings say. One address that can't be had is a warning; none at all
    /// is an error.
    pub(crate) async fn open(settings: &Settings, given: Vec<OwnedFd>) -> io::Result<Self> {
        if !given.is_empty() {
            return Self::given(given);
        }
        let options = ListenOptions {
            backlog: i32::try_from(settings.listen_backlog).unwrap_or(i32::MAX),
            reuse_port: settings.so_reuseport,
        };
        let mut listeners = Vec::new();
        let mut failure = None;
        for entry in settings.listen_addr.iter() {
            match addresses(entry, settings.listen_port).await {
                Ok(found) => {
                    for addr in found {
                        match Listener::tcp(addr, &options) {
                            Ok(listener) => {
                                tracing::info!(name: "listening", "listening on {addr}");
                                listeners.push(Rc::new(listener));
                            }
                            Err(error) => {
                                tracing::warn!(name: "cannot_listen", "cannot listen on {addr}: {error}");
                                failure = Some(error);
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(name: "cannot_listen", "cannot listen on {entry}: {error}");
                    failure = Some(error);
                }
            }
        }
        if listeners.is_empty()
            && let Some(error) = failure
        {
            return Err(error);
        }
        if let Some(dir) = &settings.unix_socket_dir {
            let path = socket_path(dir, settings.listen_port);
            let mode = UnixMode {
                mode: settings.unix_socket_mode,
                group: settings.unix_socket_group.clone(),
            };
            let listener = Listener::unix(&path, &options, &mode).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            tracing::info!(name: "listening", "listening on unix:{}", path.display());
            listeners.push(Rc::new(listener));
        }
        if listeners.is_empty() {
            return Err(io::Error::other(
                "nowhere to listen: set listen_addr or unix_socket_dir",
            ));
        }
        Ok(Self {
            listeners,
            ..Self::none()
        })
    }

    /// Listens on these sockets, whatever the settings say.
    fn given(sockets: Vec<OwnedFd>) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for socket in sockets {
            let listener = Listener::given(socket)?;
            tracing::info!(name: "listening", "listening on {}, as we were given it", listener.place());
            listeners.push(Rc::new(listener));
        }
        Ok(Self {
            given: true,
            listeners,
            ..Self::none()
        })
    }

    /// No listeners.
    pub(crate) fn none() -> Self {
        Self {
            given: false,
            listeners: Vec::new(),
            tcp: Vec::new(),
            unix: Vec::new(),
        }
    }

    /// Starts taking clients in.
    pub(crate) fn start(&mut self, process: &Arc<Process>) {
        for listener in self.listeners.drain(..) {
            let is_unix = listener.is_unix();
            let task = tokio::task::spawn_local(take_in(listener, process.clone()));
            if is_unix {
                self.unix.push(task);
            } else {
                self.tcp.push(task);
            }
        }
    }

    /// Closes the TCP listeners: from now on connections are refused there. Given ones are closed on
    /// our side only, all of them: whoever connects waits there for the next process.
    pub(crate) fn close_tcp(&mut self) {
        if self.given {
            self.unix.drain(..).for_each(|task| task.abort());
        }
        for task in self.tcp.drain(..) {
            task.abort();
        }
    }

    /// Closes all of them.
    pub(crate) async fn close(&mut self) {
        self.close_tcp();
        for task in self.unix.drain(..) {
            task.abort();
            // Its end removes the socket's file.
            let _ = task.await;
        }
    }
}

async fn take_in(listener: Rc<Listener>, process: Arc<Process>) {
    loop {
        let parked = match listener.accept().await {
            Ok(stream) => stream.park(),
            Err(error) => {
                tracing::warn!(name: "accept_failed", "accept failed: {error}");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let Some((worker, load)) = process
            .loads
            .iter()
            .enumerate()
            .min_by_key(|(_, load)| load.load(Ordering::Relaxed))
        else {
            return;
        };
        match parked {
            Ok(parked) => {
                let mail = WorkerMail::Client(parked, Counted::new(load));
                // A worker that is gone takes the connection with it.
                let _ = process.workers[worker].send(mail);
            }
            Err(error) => tracing::warn!(name: "accept_failed", "accept failed: {error}"),
        }
    }
}
