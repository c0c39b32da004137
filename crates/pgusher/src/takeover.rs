//! `-R`: a new process takes the listening sockets over from the running one, and then its clients
//! and servers.
//!
//! ```text
//! new  pgusher take-over 1
//! old  door PATH                    where an earlier process can still be reached, for each of them
//!      hands VERSION GENERATION     in which words it would hand clients and servers over
//!      sockets                      they come with this word: first the one that is spoken through
//! new  taken VERSION                it is about to take connections in
//! old  door PATH                    it takes none any more, and can be reached there
//! ```
//!
//! Until `taken` the old process serves on as if nothing were; should the new one end before that,
//! nothing has happened. Between the two last lines connections wait in the kernel's queue. Behind
//! the last one follows what `handover` has; unless one of them does not know the other's words for
//! it: then it is plain `taken`, and the old process keeps its clients until they leave.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use net::listen::{ListenOptions, UnixMode};
use net::passing::{receive, send};
use net::stream::{Parked, unix_path};
use net::{Listener, Watched};
use nix::unistd::geteuid;
use pool::server::login::socket_path;
use settings::Settings;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::accept::Listeners;
use crate::handover::VERSION;
use crate::http::Endpoint;
use crate::pooler::Pooler;

/// How a new process introduces itself; the number is that of this conversation.
const HELLO: &str = "pgusher take-over 1";
const SOCKETS: &str = "sockets";
const TAKEN: &str = "taken";
const DOOR: &str = "door ";
const HANDS: &str = "hands ";

/// Longest line of the conversation.
const LINE_MAX: usize = 4096;
/// Longest time that one process waits for the other to say something.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a process can be asked for its sockets; `None` if it can't.
fn meeting_place(settings: &Settings) -> Option<PathBuf> {
    let dir = settings.unix_socket_dir.as_ref()?;
    let mut path = socket_path(dir, settings.listen_port).into_os_string();
    path.push(".take-over");
    Some(path.into())
}

/// The conversation, line by line.
pub(crate) struct Talk {
    stream: UnixStream,
    heard: Vec<u8>,
    sockets: Vec<OwnedFd>,
}

impl Talk {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            heard: Vec::new(),
            sockets: Vec::new(),
        }
    }

    /// The way to the other process, and what was heard and not understood.
    pub(crate) fn into_parts(self) -> (UnixStream, Vec<u8>, Vec<OwnedFd>) {
        (self.stream, self.heard, self.sockets)
    }

    async fn say(&self, line: &str) -> io::Result<()> {
        send(&self.stream, format!("{line}\n").as_bytes(), &[]).await
    }

    /// The next line, whatever comes with it.
    async fn hear(&mut self) -> io::Result<String> {
        timeout(PATIENCE, self.next_line())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn next_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.heard.len() > LINE_MAX {
                return Err(unexpected("a line without an end"));
            }
            let mut words = [0; 512];
            let len = receive(&self.stream, &mut words, &mut self.sockets).await?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.heard.extend_from_slice(&words[..len]);
        }
    }
}

fn unexpected(line: &str) -> io::Error {
    io::Error::other(format!("the other process says: {line}"))
}

/// The new process, before it takes connections in.
pub(crate) struct Heir {
    talk: Talk,
    doors: Vec<PathBuf>,
    /// The old process's generation, if we know its words for handing over.
    hands: Option<u32>,
    /// Where the next one will ask.
    meeting: Listener,
}

impl Heir {
    /// Asks the running process for its sockets; `None` if there is none.
    pub(crate) async fn meet(settings: &Settings) -> io::Result<Option<(Self, Vec<OwnedFd>)>> {
        let place =
            meeting_place(settings).ok_or_else(|| io::Error::other("-R needs unix_socket_dir"))?;
        let stream = match UnixStream::connect(unix_path(&place)).await {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut talk = Talk::new(stream);
        let mut doors = Vec::new();
        let mut hands = None;
        talk.say(HELLO).await?;
        loop {
            let line = talk.hear().await?;
            if let Some(door) = line.strip_prefix(DOOR) {
                doors.push(PathBuf::from(door));
            } else if let Some(offer) = line.strip_prefix(HANDS) {
                hands = understood(offer);
            } else if line == SOCKETS {
                break;
            } else {
                return Err(unexpected(&line));
            }
        }
        let mut sockets = std::mem::take(&mut talk.sockets).into_iter();
        let meeting = sockets.next().map(Listener::given).transpose()?;
        let heir = Self {
            meeting: meeting.ok_or_else(|| unexpected("sockets, and sends none"))?,
            talk,
            doors,
            hands,
        };
        Ok(Some((heir, sockets.collect())))
    }

    /// Takes the clients to come: from now on the processes that serve the others are reached by
    /// their `doors` only.
    async fn take(&mut self) -> io::Result<()> {
        match self.hands {
            Some(_) => self.talk.say(&format!("{TAKEN} {VERSION}")).await?,
            None => self.talk.say(TAKEN).await?,
        }
        let line = self.talk.hear().await?;
        let door = line.strip_prefix(DOOR).ok_or_else(|| unexpected(&line))?;
        self.doors.push(PathBuf::from(door));
        Ok(())
    }

    /// The generation of processes that begins with this one, if the old one hands anything over
    /// but its sockets.
    pub(crate) fn generation(&self) -> Option<u32> {
        Some(self.hands?.saturating_add(1))
    }
}

/// The generation in an offer to hand clients and servers over, if its version is ours.
fn understood(offer: &str) -> Option<u32> {
    let (version, generation) = offer.split_once(' ')?;
    if version.parse() != Ok(VERSION) {
        tracing::warn!(
            "the running process hands over in version {version}, we in {VERSION}: it keeps its clients"
        );
        return None;
    }
    generation.parse().ok()
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

impl Pooler {
    /// Takes the clients to come from the process that we have the sockets from, if there is one;
    /// then is ready to be taken over from.
    pub(crate) async fn succeed(self: &Rc<Self>) {
        let Some(place) = meeting_place(&self.setup().config.settings) else {
            return;
        };
        let heir = self.listeners.borrow_mut().heir.take();
        let meeting = match heir {
            Some(mut heir) => {
                let taken = heir.take().await;
                self.listeners.borrow().claim();
                heir.meeting.claim_file();
                self.process.elders.replace(heir.doors);
                match taken {
                    Ok(()) if heir.hands.is_some() => self.take(heir.talk).await,
                    Ok(()) => self.takes_nothing(),
                    // The sockets are ours all the same.
                    Err(error) => {
                        tracing::warn!("take-over: {error}");
                        self.takes_nothing();
                    }
                }
                let settings = &self.setup().config.settings;
                Endpoint::open(settings).await.start(self);
                heir.meeting
            }
            None if !self.listeners.borrow().are_ours() => return,
            None => match listen(&place) {
                Ok(listener) => listener,
                Err(error) => {
                    let place = place.display();
                    tracing::warn!("{place}: {error}: nobody will be able to take over by -R");
                    return;
                }
            },
        };
        tokio::task::spawn_local(await_heir(self.clone(), meeting.into(), place));
    }
}

/// Waits for a new process to come, and hands the listening sockets over to it.
async fn await_heir(pooler: Rc<Pooler>, meeting: Arc<Listener>, place: PathBuf) {
    loop {
        // Watched while it is waited for, and no longer: the next may come long before that.
        let accepted = match Watched::new(meeting.clone()) {
            Ok(watched) => watched.accept().await,
            Err(error) => Err(error),
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return tracing::warn!("{}: {error}", place.display()),
        };
        match hand_over(&pooler, accepted.socket, &meeting).await {
            // The place is the heir's now.
            Ok((talk, hands)) => {
                meeting.leave_file();
                return part(&pooler, talk, hands, &place).await;
            }
            Err(error) => tracing::warn!("take-over failed: {error}"),
        }
    }
}

/// Listens at a place that is for nobody but us.
fn listen(place: &Path) -> io::Result<Listener> {
    let options = ListenOptions {
        backlog: 16,
        reuse_port: false,
        keepalive: None,
    };
    let mode = UnixMode {
        mode: 0o600,
        group: None,
    };
    Listener::unix(place, &options, &mode)
}

/// What the heir gets.
enum Hands {
    /// All that it can use.
    All,
    /// The listening sockets alone.
    Sockets,
}

/// Gives away the listening sockets; returns when they have been taken.
async fn hand_over(
    pooler: &Pooler,
    stream: Parked,
    meeting: &Listener,
) -> io::Result<(Talk, Hands)> {
    let Parked::Unix(stream) = stream else {
        return Err(io::Error::other("not a unix socket"));
    };
    let stream = UnixStream::from_std(stream)?;
    let peer = stream.peer_cred()?;
    let pid = peer.pid().unwrap_or_default();
    if peer.uid() != geteuid().as_raw() && peer.uid() != 0 {
        return Err(io::Error::other(format!(
            "process {pid} is not of our account"
        )));
    }
    let mut talk = Talk::new(stream);
    let hello = talk.hear().await?;
    if hello != HELLO {
        talk.say(&format!("refused: expected {HELLO}")).await?;
        return Err(unexpected(&hello));
    }
    if pooler.is_shutting_down() {
        talk.say("refused: shutting down").await?;
        return Err(io::Error::other("too late"));
    }
    for door in pooler.process.elders.doors() {
        talk.say(&format!("{DOOR}{}", door.display())).await?;
    }
    let generation = pooler.process.shared.generation();
    talk.say(&format!("{HANDS}{VERSION} {generation}")).await?;
    let mut sockets = vec![meeting.copy()?];
    sockets.extend(pooler.listeners.borrow().copies()?);
    let borrowed: Vec<_> = sockets.iter().map(std::os::fd::AsFd::as_fd).collect();
    send(&talk.stream, format!("{SOCKETS}\n").as_bytes(), &borrowed).await?;
    let answer = talk.hear().await?;
    let version = answer.strip_prefix(TAKEN).map(str::trim_start);
    let hands = match version.ok_or_else(|| unexpected(&answer))? {
        version if version.parse() == Ok(VERSION) => Hands::All,
        version => {
            let version = if version.is_empty() { "none" } else { version };
            tracing::warn!(
                "the new process takes over in version {version}, we hand over in {VERSION}: we keep our clients"
            );
            Hands::Sockets
        }
    };
    pooler.manager.succeeded_by(pid);
    Ok((talk, hands))
}

/// Takes no connections in any more, but for cancel requests and operators who know the way; ends
/// with the last client.
async fn part(pooler: &Rc<Pooler>, talk: Talk, hands: Hands, place: &Path) {
    let mut door = place.as_os_str().to_owned();
    door.push(format!(".{}", std::process::id()));
    let door = PathBuf::from(door);
    let closing = pooler.listeners.borrow_mut().leave();
    closing.done().await;
    Endpoint::close(pooler).await;
    match listen(&door) {
        Ok(listener) => *pooler.listeners.borrow_mut() = Listeners::back_door(listener),
        Err(error) => tracing::warn!("cannot listen on unix:{}: {error}", door.display()),
    }
    pooler.listeners.borrow_mut().start(pooler.process);
    // Cancel requests come to the heir, who knows them all.
    pooler.process.elders.replace(Vec::new());
    tracing::info!(name: "taken_over", "another process has taken over, we can be reached at {}", door.display());
    if let Err(error) = talk.say(&format!("{DOOR}{}", door.display())).await {
        tracing::warn!("take-over: {error}");
    } else if let Hands::All = hands {
        pooler.give(talk);
    }
    pooler.retire();
}
