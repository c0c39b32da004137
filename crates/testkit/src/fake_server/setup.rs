//! How a fake server is to behave.

use std::{pin::Pin, sync::Arc};

use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};

use super::{Ask, Chunks, FakeServer, Login, Newer, Step, keep_door, record::Hall};
use crate::scratch::Scratch;

/// A fake server to be configured.
pub struct FakeServerSetup {
    pub(super) login: Login,
    pub(super) newer: Newer,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) chunks: Chunks,
    pub(super) script: Option<Script>,
    pub(super) cancel_secret_len: usize,
    unix: bool,
}

pub(super) type Script = Box<dyn Fn(Ask) -> Answer + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Option<Vec<Step>>> + Send>>;

/// What a PostgreSQL 15 tells at login.
const PARAMETERS: [(&str, &str); 11] = [
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "off"),
    ("server_encoding", "UTF8"),
    ("server_version", "15.0 (fake)"),
    ("session_authorization", "fake"),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

impl Default for FakeServerSetup {
    fn default() -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            login: Login::Trust,
            newer: Newer::SpokenUpTo(0),
            parameters: PARAMETERS.map(owned).into(),
            chunks: Chunks::Whole,
            script: None,
            cancel_secret_len: 4,
            unix: false,
        }
    }
}

impl FakeServerSetup {
    /// What clients must show to get in.
    pub fn login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }

    /// What it makes of protocols newer than 3.0; by default it is as old as PostgreSQL 15.
    pub fn newer_protocols(mut self, newer: Newer) -> Self {
        self.newer = newer;
        self
    }

    /// A parameter told at login and whenever SET changes it.
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How what we send is cut up.
    pub fn chunks(mut self, chunks: Chunks) -> Self {
        self.chunks = chunks;
        self
    }

    /// Cancel keys with a secret of this length; 0 stands for no keys at all.
    pub fn cancel_secret_len(mut self, len: usize) -> Self {
        self.cancel_secret_len = len;
        self
    }

    /// Listens on a unix socket too.
    pub fn unix_socket(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Answers queries by this closure; what it answers with `None` goes to the built-in script.
    pub fn answer<F, A>(mut self, script: F) -> Self
    where
        F: Fn(Ask) -> A + Send + Sync + 'static,
        A: Future<Output = Option<Vec<Step>>> + Send + 'static,
    {
        self.script = Some(Box::new(move |ask| Box::pin(script(ask))));
        self
    }

    /// Starts to listen.
    pub async fn start(self) -> FakeServer {
        let tcp = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port for the fake server");
        let port = tcp
            .local_addr()
            .expect("a bound socket has an address")
            .port();
        let scratch = self
            .unix
            .then(|| Scratch::new("fake").expect("a directory for the fake server"));
        let unix = scratch.as_ref().map(|scratch| listen_in(scratch, port));
        let (stop_listening, stop) = watch::channel(false);
        let hall = Arc::new(Hall::new(self));
        let doorman = tokio::spawn(keep_door(tcp, unix, hall.clone(), stop));
        FakeServer {
            hall,
            port,
            stop_listening,
            doorman,
            scratch,
        }
    }
}

fn listen_in(scratch: &Scratch, port: u16) -> UnixListener {
    use std::{fs, os::unix::fs::PermissionsExt};

    let path = scratch.path().join(format!(".s.PGSQL.{port}"));
    let listener = UnixListener::bind(&path).expect("a unix socket for the fake server");
    // The pooler may run under another account than the test.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("our own socket");
    listener
}
