//! Takes connections in and hands each to a worker.
//!
//! A worker looks after each door. Those that fall to it go nowhere else: from one thread to another
//! costs as much as all else at a login.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net::listen::{Accepted, ListenOptions, UnixMode, addresses};
use net::{Listener, Watched};
use pool::server::login::socket_path;
use settings::Settings;
use tokio::sync::oneshot;

use crate::load;
use crate::process::Process;
use crate::takeover::Heir;
use crate::worker::{Worker, WorkerMail};

/// Pause after a failed accept: mostly we are out of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// The listening sockets of the process.
pub(crate) struct Listeners {
    /// Whether the service manager gave them: then they are there after us, and so are those who
    /// connect meanwhile.
    given: bool,
    doors: Vec<Door>,
    console_only: Arc<AtomicBool>,
    /// The way to the process that we have the sockets from, and that still takes clients in there.
    pub(crate) heir: Option<Heir>,
}

/// One of them.
struct Door {
    listener: Arc<Listener>,
    open: Option<Open>,
}

/// A door where connections are taken in, wherever that is done.
struct Open {
    stop: oneshot::Sender<Stop>,
    /// Says when it has stopped.
    stopped: oneshot::Receiver<()>,
}

/// How connections are no more taken in.
#[derive(Debug)]
enum Stop {
    /// Those in the kernel's queue stay there.
    AtOnce,
    /// Those in the kernel's queue are let in first, for whatever they like.
    AfterQueue,
}

/// The end of what goes on at some doors.
#[must_use = "connections may be taken in until it has been waited for"]
pub(crate) struct Closing(Vec<oneshot::Receiver<()>>);

impl Closing {
    /// Waits until nobody takes connections in there any more.
    pub(crate) async fn done(self) {
        for stopped in self.0 {
            // Gone is stopped, too.
            let _ = stopped.await;
        }
    }
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
            keepalive: Some(settings.tcp_keepalive),
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
                                listeners.push(listener);
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
            listeners.push(listener);
        }
        if listeners.is_empty() {
            return Err(io::Error::other(
                "nowhere to listen: set listen_addr or unix_socket_dir",
            ));
        }
        Ok(Self::of(listeners, false))
    }

    /// Listens on these sockets, whatever the settings say.
    fn given(sockets: Vec<OwnedFd>) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for socket in sockets {
            let listener = Listener::given(socket)?;
            tracing::info!(name: "listening", "listening on {}, as we were given it", listener.place());
            listeners.push(listener);
        }
        Ok(Self::of(listeners, true))
    }

    fn of(listeners: Vec<Listener>, given: bool) -> Self {
        let doors = listeners.into_iter().map(|listener| Door {
            listener: Arc::new(listener),
            open: None,
        });
        Self {
            given,
            doors: doors.collect(),
            console_only: Arc::default(),
            heir: None,
        }
    }

    /// Listens on the sockets of the running process, whatever the settings say; `None` if none runs.
    pub(crate) async fn take_over(settings: &Settings) -> io::Result<Option<Self>> {
        let Some((heir, sockets)) = Heir::meet(settings).await? else {
            tracing::info!("there is no process to take over from");
            return Ok(None);
        };
        let mut listeners = Vec::new();
        for socket in sockets {
            let listener = Listener::given(socket)?;
            tracing::info!(name: "listening", "listening on {}, taken over", listener.place());
            listeners.push(listener);
        }
        Ok(Some(Self {
            heir: Some(heir),
            ..Self::of(listeners, false)
        }))
    }

    /// The generation of processes that begins with this one, if another hands over to it.
    pub(crate) fn generation(&self) -> Option<u32> {
        self.heir.as_ref()?.generation()
    }

    /// Whether others may take the sockets over: those that were given are not ours to hand on.
    pub(crate) fn are_ours(&self) -> bool {
        !self.given
    }

    /// Listens for operators and cancel requests alone.
    pub(crate) fn back_door(listener: Listener) -> Self {
        Self {
            console_only: Arc::new(AtomicBool::new(true)),
            ..Self::of(vec![listener], false)
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
    pub(crate) fn leave(&mut self) -> Closing {
        self.doors
            .iter()
            .for_each(|door| door.listener.leave_file());
        self.close()
    }

    /// Has the kernel do with those who connect as the settings say.
    pub(crate) fn tune(&self, settings: &Settings) {
        for door in &self.doors {
            let deferred = door.listener.set_deferred(settings.tcp_defer_accept != 0);
            let probed = door.listener.set_keepalive(settings.tcp_keepalive);
            for (what, tuned) in [("tcp_defer_accept", deferred), ("tcp_keepalive", probed)] {
                if let Err(error) = tuned {
                    let place = door.listener.place();
                    tracing::warn!("cannot set {what} of {place}: {error}");
                }
            }
        }
    }

    /// Takes clients in from now on, or again.
    pub(crate) fn start(&mut self, process: &'static Process) {
        for door in self.doors.iter_mut().filter(|door| door.open.is_none()) {
            door.start(process, &self.console_only);
        }
    }

    /// Leaves whoever comes where they are, in the kernel's queue.
    pub(crate) fn suspend(&mut self) -> Closing {
        let doors = self.doors.iter_mut();
        Closing(doors.filter_map(|door| door.stop(Stop::AtOnce)).collect())
    }

    /// Closes the TCP listeners: from now on connections are refused there, and elsewhere only the
    /// console is open. Those whom the kernel has accepted already are let in. Given ones are closed
    /// on our side only, all of them: whoever connects waits there for the next process.
    pub(crate) fn close_to_clients(&mut self, process: &'static Process) -> Closing {
        let mut closing = Vec::new();
        let given = self.given;
        self.doors.retain_mut(|door| {
            let stays = door.listener.is_unix() && !given;
            if given {
                closing.extend(door.stop(Stop::AtOnce));
            } else if stays || door.open.is_none() {
                empty_queue(&door.listener, process);
            } else {
                closing.extend(door.stop(Stop::AfterQueue));
            }
            stays
        });
        // Behind given ones nobody comes late: who is taken in before that has stopped came in time.
        self.console_only.store(!given, Ordering::SeqCst);
        Closing(closing)
    }

    /// Closes all of them; the socket's file goes with the last who has the listener.
    pub(crate) fn close(&mut self) -> Closing {
        let closing = self.suspend();
        self.doors.clear();
        closing
    }
}

impl Door {
    fn start(&mut self, process: &'static Process, console_only: &Arc<AtomicBool>) {
        let (stop, told) = oneshot::channel();
        let (ended, stopped) = oneshot::channel();
        self.open = Some(Open { stop, stopped });
        let intake = Intake {
            listener: self.listener.clone(),
            console_only: console_only.clone(),
            told,
            _ended: ended,
        };
        // One door, one worker; which clients are whose is settled later. A worker that is gone takes
        // the process with it.
        if let Some(worker) = process.workers.first() {
            let _ = worker.send(WorkerMail::TakeIn(intake));
        }
    }

    fn stop(&mut self, how: Stop) -> Option<oneshot::Receiver<()>> {
        let Open { stop, stopped } = self.open.take()?;
        // It may have ended by itself.
        let _ = stop.send(how);
        Some(stopped)
    }
}

/// Takes connections in at one door.
#[derive(Debug)]
pub(crate) struct Intake {
    listener: Arc<Listener>,
    console_only: Arc<AtomicBool>,
    told: oneshot::Receiver<Stop>,
    _ended: oneshot::Sender<()>,
}

impl Intake {
    /// Goes on until it is told to stop.
    pub(crate) async fn run(self, worker: Rc<Worker>) {
        let watched = match Watched::new(self.listener.clone()) {
            Ok(watched) => watched,
            Err(error) => {
                let place = self.listener.place();
                tracing::error!(name: "cannot_listen", "cannot listen on {place}: {error}");
                return;
            }
        };
        let told = tokio::select! {
            biased;
            how = self.told => how.ok(),
            () = take_in(&watched, &worker, &self.console_only) => None,
        };
        drop(watched);
        if let Some(Stop::AfterQueue) = told {
            // Whoever comes between the last look and the close is turned away by the kernel: nothing
            // else may take time there.
            empty_queue(&self.listener, worker.process);
        }
        drop(self.listener);
    }
}

async fn take_in(watched: &Watched, worker: &Rc<Worker>, console_only: &AtomicBool) {
    loop {
        let accepted = watched.accept().await;
        // Only unix sockets stay open for the console: who came by another door came in time.
        let late = console_only.load(Ordering::Relaxed)
            && matches!(&accepted, Ok(accepted) if accepted.is_unix());
        let admission = match late {
            true => Admission::ConsoleOnly,
            false => Admission::Open,
        };
        match accepted {
            Ok(accepted) => {
                worker.note_cpu();
                admit(accepted, worker.process, Some(worker), admission);
            }
            Err(error) => {
                tracing::warn!(name: "accept_failed", "accept failed: {error}");
                watched.rest(BREATH).await;
            }
        }
    }
}

/// Lets in those who are connected already, before the listener closes.
fn empty_queue(listener: &Listener, process: &'static Process) {
    loop {
        match listener.accept() {
            Ok(accepted) => admit(accepted, process, None, Admission::Open),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                tracing::warn!(name: "accept_failed", "accept failed: {error}");
                return;
            }
        }
    }
}

/// Hands a connection to a worker, which may be the one that runs this.
fn admit(
    accepted: Accepted,
    process: &'static Process,
    here: Option<&Rc<Worker>>,
    admission: Admission,
) {
    let cpu = match process.loads.len() {
        1 => None,
        _ => accepted.cpu(),
    };
    let Some((worker, load)) = load::choose(&process.loads, &process.shared.cpus, cpu) else {
        return;
    };
    let counted = load.count();
    if let Some(here) = here.filter(|here| here.id.0 == worker) {
        return here.admit(accepted, counted, admission);
    }
    let mail = WorkerMail::Client(accepted, counted, admission);
    // A worker that is gone takes the connection with it.
    let _ = process.workers[worker].send(mail);
}
