//! Takes connections in and hands each to the worker with the fewest clients.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use net::listen::{ListenOptions, UnixMode, addresses};
use net::{Listener, Stream};
use pool::server::login::socket_path;
use settings::Settings;
use tokio::task::JoinHandle;

use crate::process::{Counted, Process};
use crate::takeover::Heir;
use crate::worker::WorkerMail;

/// Pause after a failed accept: mostly we are out of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// The listening sockets of the process.
pub(crate) struct Listeners {
    /// Whether the service manager gave them: then they are there after us, and so are those who
    /// connect meanwhile.
    given: bool,
    doors: Vec<Door>,
    admission: Rc<Cell<Admission>>,
    /// The way to the process that we have the sockets from, and that still takes clients in there.
    pub(crate) heir: Option<Heir>,
}

/// One of them, and the task that takes connections in there.
struct Door {
    listener: Rc<Listener>,
    task: Option<JoinHandle<()>>,
}

/// What a connection may be for that comes in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Admission {
    /// Whatever it likes.
    #[default]
    Open,
    /// The console: for anything else it is too late.
    ConsoleOnly,
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
            doors: listeners.into_iter().map(Door::new).collect(),
            ..Self::none()
        })
    }

    /// Listens on these sockets, whatever the settings say.
    fn given(sockets: Vec<OwnedFd>) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for socket in sockets {
            let listener = Listener::given(socket)?;
            tracing::info!(name: "listening", "listening on {}, as we were given it", listener.place());
            listeners.push(Door::new(Rc::new(listener)));
        }
        Ok(Self {
            given: true,
            doors: listeners,
            ..Self::none()
        })
    }

    /// Listens on the sockets of the running process, whatever the settings say; `None` if none runs.
    pub(crate) async fn take_over(settings: &Settings) -> io::Result<Option<Self>> {
        let Some((heir, sockets)) = Heir::meet(settings).await? else {
            tracing::info!("there is no process to take over from");
            return Ok(None);
        };
        let mut doors = Vec::new();
        for socket in sockets {
            let listener = Listener::given(socket)?;
            tracing::info!(name: "listening", "listening on {}, taken over", listener.place());
            doors.push(Door::new(Rc::new(listener)));
        }
        Ok(Some(Self {
            doors,
            heir: Some(heir),
            ..Self::none()
        }))
    }

    /// Whether others may take the sockets over: those that were given are not ours to hand on.
    pub(crate) fn are_ours(&self) -> bool {
        !self.given
    }

    /// Listens for operators and cancel requests alone.
    pub(crate) fn back_door(listener: Listener) -> Self {
        Self {
            doors: vec![Door::new(Rc::new(listener))],
            admission: Rc::new(Cell::new(Admission::ConsoleOnly)),
            ..Self::none()
        }
    }

    /// The sockets once more, for another process.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        self.doors.iter().map(|door| door.listener.copy()).collect()
    }

    /// Looks after the files of sockets that another process has left to us.
    pub(crate) fn claim(&self) {
        self.doors
            .iter()
            .for_each(|door| door.listener.claim_file());
    }

    /// Leaves the sockets to the process that has copies of them now.
    pub(crate) fn leave(&mut self) {
        self.suspend();
        self.doors
            .drain(..)
            .for_each(|door| door.listener.leave_file());
    }

    /// No listeners.
    pub(crate) fn none() -> Self {
        Self {
            given: false,
            doors: Vec::new(),
            admission: Rc::default(),
            heir: None,
        }
    }

    /// Takes clients in from now on, or again.
    pub(crate) fn start(&mut self, process: &Arc<Process>) {
        for door in &mut self.doors {
            let (listener, admission) = (door.listener.clone(), self.admission.clone());
            let task = tokio::task::spawn_local(take_in(listener, process.clone(), admission));
            door.task = Some(task);
        }
    }

    /// Leaves whoever comes where they are, in the kernel's queue.
    pub(crate) fn suspend(&mut self) {
        self.doors.iter_mut().for_each(Door::suspend);
    }

    /// Closes the TCP listeners: from now on connections are refused there, and elsewhere only the
    /// console is open. Those whom the kernel has accepted already are let in. Given ones are closed
    /// on our side only, all of them: whoever connects waits there for the next process.
    pub(crate) fn close_to_clients(&mut self, process: &Process) {
        if self.given {
            self.suspend();
            self.doors.clear();
            return;
        }
        for door in &self.doors {
            empty_queue(&door.listener, process);
        }
        self.doors.retain_mut(|door| {
            if !door.listener.is_unix() {
                door.suspend();
            }
            door.listener.is_unix()
        });
        self.admission.set(Admission::ConsoleOnly);
    }

    /// Closes all of them.
    pub(crate) async fn close(&mut self) {
        for mut door in self.doors.drain(..) {
            if let Some(task) = door.task.take() {
                task.abort();
                // The socket's file goes with the last who has the listener.
                let _ = task.await;
            }
        }
    }
}

impl Door {
    fn new(listener: Rc<Listener>) -> Self {
        Self {
            listener,
            task: None,
        }
    }

    fn suspend(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn take_in(listener: Rc<Listener>, process: Arc<Process>, admission: Rc<Cell<Admission>>) {
    loop {
        match listener.accept().await {
            Ok(stream) => admit(stream, &process, admission.get()),
            Err(error) => {
                tracing::warn!(name: "accept_failed", "accept failed: {error}");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Lets in those who are connected already, before the listener closes.
fn empty_queue(listener: &Listener, process: &Process) {
    loop {
        match listener.accept_now() {
            Ok(Some(stream)) => admit(stream, process, Admission::Open),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(name: "accept_failed", "accept failed: {error}");
                return;
            }
        }
    }
}

/// Hands a connection to the worker with the fewest clients.
fn admit(stream: Stream, process: &Process, admission: Admission) {
    let loads = process.loads.iter().enumerate();
    let Some((worker, load)) = loads.min_by_key(|(_, load)| load.load(Ordering::Relaxed)) else {
        return;
    };
    match stream.park() {
        Ok(parked) => {
            let mail = WorkerMail::Client(parked, Counted::new(load), admission);
            // A worker that is gone takes the connection with it.
            let _ = process.workers[worker].send(mail);
        }
        Err(error) => tracing::warn!(name: "accept_failed", "accept failed: {error}"),
    }
}
