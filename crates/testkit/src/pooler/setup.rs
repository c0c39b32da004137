//! How a pooler is configured, and its start.

use std::{
    env, fmt, fs, io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep, timeout};

use super::Pooler;
use crate::{
    account::Account,
    address::Address,
    eventually::{GLANCE, PATIENCE},
    fake_client::FakeClient,
    log::Log,
    message::startup_packet,
    port::Port,
    process::Process,
    scratch::{Scratch, lock, shared_dir},
    start_error::StartError,
};

/// A pooler to be configured.
///
/// Values and files may say `{dir}` and `{port}` where they need the directory that the files
/// are in, or the port that was chosen.
#[derive(Clone)]
pub struct PoolerSetup {
    binary: Option<PathBuf>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    port: Option<u16>,
    port_use: PortUse,
    given: Option<(Arc<OwnedFd>, Address)>,
    before: String,
    databases: Vec<(String, String)>,
    users: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    sections: String,
    whole_ini: Option<String>,
    without_ini: bool,
    files: Vec<(String, String)>,
    console: (String, String),
    /// Ours for as long as the test needs it.
    pub(super) metrics: Option<Arc<Port>>,
}

/// Who listens on the pooler's port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PortUse {
    /// It alone.
    Own,
    /// Others, too.
    Shared,
    /// Somebody else did before.
    Held,
}

/// How a pooler ended that was not meant to run.
#[derive(Debug)]
pub struct Exit {
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it wrote.
    pub log: String,
}

const SETTINGS: [(&str, &str); 7] = [
    ("listen_addr", "127.0.0.1"),
    ("listen_port", "{port}"),
    ("unix_socket_dir", "{dir}"),
    ("auth_type", "scram-sha-256"),
    ("auth_file", "{dir}/userlist.txt"),
    ("admin_users", "testkit_admin"),
    // Else the kernel keeps those who are silent for a second, and tests are full of them.
    ("tcp_defer_accept", "0"),
];

impl Default for PoolerSetup {
    fn default() -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            binary: None,
            args: Vec::new(),
            env: Vec::new(),
            port: None,
            port_use: PortUse::Own,
            given: None,
            before: String::new(),
            databases: Vec::new(),
            users: Vec::new(),
            settings: SETTINGS.map(owned).into(),
            sections: String::new(),
            whole_ini: None,
            without_ini: false,
            files: Vec::new(),
            console: ("testkit_admin".to_owned(), "testkit_admin".to_owned()),
            metrics: None,
        }
    }
}

impl PoolerSetup {
    /// The program to run.
    pub fn binary(mut self, path: impl AsRef<Path>) -> Self {
        self.binary = Some(path.as_ref().to_owned());
        self
    }

    /// An argument before the ini's name.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// A variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Just this port, or none.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The port of another pooler, which goes on listening there, too.
    pub fn shared_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self.port_use = PortUse::Shared;
        self
    }

    /// The port of another pooler, which hands it over.
    pub fn inherited_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self.port_use = PortUse::Held;
        self
    }

    /// A socket that listens at this address, as a service manager gives it: by LISTEN_FDS.
    pub fn given(mut self, listener: impl Into<OwnedFd>, address: Address) -> Self {
        if let Address::Tcp(address) = &address {
            self.port = Some(address.port());
            self.port_use = PortUse::Held;
        }
        self.given = Some((Arc::new(listener.into()), address));
        self.through_shell(
            "exec 3<&0 </dev/null; LISTEN_PID=$$; LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS",
        )
    }

    /// A line for the shell that turns into the pooler.
    pub fn through_shell(mut self, line: &str) -> Self {
        self.before = format!("{}{line}\n", self.before);
        self
    }

    /// A line of `[databases]`; replaces one of the same name.
    pub fn database(mut self, name: &str, conn_info: &str) -> Self {
        put(&mut self.databases, name, conn_info);
        self
    }

    /// Takes a line out of `[databases]`.
    pub fn without_database(mut self, name: &str) -> Self {
        self.databases.retain(|(known, _)| known != name);
        self
    }

    /// A line of the userlist: a password in clear text, or a secret as PostgreSQL stores it.
    pub fn user(mut self, name: &str, secret: &str) -> Self {
        put(&mut self.users, name, secret);
        self
    }

    /// A line of `[pgbouncer]`; replaces one of the same name.
    pub fn set(mut self, name: &str, value: impl fmt::Display) -> Self {
        put(&mut self.settings, name, &value.to_string());
        self
    }

    /// With the HTTP endpoint, at a port of its own.
    pub fn metrics(mut self) -> Self {
        let port = Port::claim().unwrap_or_else(|error| panic!("{error}"));
        let number = port.number;
        self.metrics = Some(Arc::new(port));
        let listens = self.set("metrics_listen_addr", "127.0.0.1");
        listens.set("metrics_port", number)
    }

    /// Takes a line out of `[pgbouncer]`.
    pub fn unset(mut self, name: &str) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self
    }

    /// Text at the end of the ini: other sections.
    pub fn section(mut self, text: &str) -> Self {
        self.sections.push_str(text);
        self.sections.push('\n');
        self
    }

    /// The whole ini, instead of one made of the parts above.
    pub fn ini(mut self, text: &str) -> Self {
        self.whole_ini = Some(text.to_owned());
        self
    }

    /// No ini: the one that it is told of will not be there.
    pub fn without_ini(mut self) -> Self {
        self.without_ini = true;
        self
    }

    /// A file beside the ini.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        put(&mut self.files, name, text);
        self
    }

    /// The administrator as whom [`Pooler::console`] logs in.
    pub fn console_as(mut self, user: &str, password: &str) -> Self {
        self.console = (user.to_owned(), password.to_owned());
        self
    }

    /// Starts it, and waits until it answers.
    pub async fn start(self) -> Pooler {
        self.try_start()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts it, and waits until it answers; or why it did not.
    pub async fn try_start(self) -> Result<Pooler, StartError> {
        const TRIES: u32 = 5;
        let scratch =
            Arc::new(Scratch::new("pooler").map_err(StartError::io("making a directory"))?);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.clone().try_once(&scratch).await {
                Err(error) if error.lost_its_port() && self.port.is_none() && tries < TRIES => {}
                outcome => return outcome,
            }
        }
    }

    /// Starts what is meant not to run (a bad ini, `--check`, `--version`), and waits for its end.
    pub async fn run_to_exit(self) -> Exit {
        let scratch = Arc::new(Scratch::new("pooler").expect("a directory"));
        let port = self.claim_port().unwrap_or_else(|error| panic!("{error}"));
        let launched = self.launch(&scratch, port.number);
        let mut process = launched.unwrap_or_else(|error| panic!("{error}"));
        let status = process.wait_exit().await;
        // For its last lines.
        process.early_exit();
        Exit {
            status,
            log: process.log.text(),
        }
    }

    async fn try_once(self, scratch: &Arc<Scratch>) -> Result<Pooler, StartError> {
        let port = self.claim_port()?;
        let mut process = self.launch(scratch, port.number)?;
        self.wait_ready(&mut process, scratch, port.number).await?;
        Ok(Pooler {
            setup: self,
            process,
            port,
            scratch: scratch.clone(),
        })
    }

    fn claim_port(&self) -> Result<Port, StartError> {
        match self.port {
            Some(port) if self.port_use == PortUse::Own => Port::exactly(port),
            Some(port) => Ok(Port::shared(port)),
            None => Port::claim(),
        }
    }

    fn launch(&self, scratch: &Arc<Scratch>, port: u16) -> Result<Process, StartError> {
        let account = Account::for_servers();
        let ini = self.write(scratch, port)?;
        let program = reachable(&self.program()?, account)?;
        let mut command = if self.before.is_empty() {
            account.command(program)
        } else {
            let mut shell = account.command("/bin/sh");
            let script = format!("{}exec \"$0\" \"$@\"", self.before);
            shell.arg("-c").arg(script).arg(program);
            shell
        };
        let fill = |text: &str| fill(text, scratch, port);
        command.args(self.args.iter().map(|arg| fill(arg))).arg(ini);
        command.envs(self.env.iter().map(|(name, value)| (name, fill(value))));
        let stdin = match &self.given {
            Some((listener, _)) => {
                let copy = listener.try_clone();
                copy.map_err(StartError::io("copying a socket"))?.into()
            }
            None => Stdio::null(),
        };
        Process::spawn_with_stdin(&mut command, stdin, scratch, Log::new())
    }

    /// Writes all files, and returns where the ini is.
    pub(super) fn write(&self, scratch: &Scratch, port: u16) -> Result<PathBuf, StartError> {
        let put = |name: &str, text: &str| {
            let written = scratch.write(name, &fill(text, scratch, port));
            written.map_err(StartError::io(format!("writing {name}")))
        };
        for (name, text) in &self.files {
            put(name, text)?;
        }
        // A file given under this name is wanted as it is.
        if !self.files.iter().any(|(name, _)| name == "userlist.txt") {
            put("userlist.txt", &self.userlist())?;
        }
        if self.without_ini {
            return Ok(scratch.path().join("pooler.ini"));
        }
        put("pooler.ini", &self.ini_text())
    }

    fn ini_text(&self) -> String {
        if let Some(whole) = &self.whole_ini {
            return whole.clone();
        }
        let lines = |pairs: &[(String, String)]| -> String {
            pairs
                .iter()
                .map(|(name, value)| format!("{name} = {value}\n"))
                .collect()
        };
        let (databases, settings) = (lines(&self.databases), lines(&self.settings));
        format!(
            "[databases]\n{databases}\n[pgbouncer]\n{settings}\n{}",
            self.sections
        )
    }

    fn userlist(&self) -> String {
        let users = self.users.iter().chain(std::iter::once(&self.console));
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        users
            .map(|(name, secret)| format!("{} {}\n", quoted(name), quoted(secret)))
            .collect()
    }

    pub(super) fn console_login(&self) -> (&str, &str) {
        (&self.console.0, &self.console.1)
    }

    /// The program given, or pgusher as cargo built it.
    fn program(&self) -> Result<PathBuf, StartError> {
        if let Some(binary) = &self.binary {
            return Ok(binary.clone());
        }
        let told = [
            "PGUSHER_TEST_POOLER",
            "NEXTEST_BIN_EXE_pgusher",
            "CARGO_BIN_EXE_pgusher",
        ];
        if let Some(path) = told.into_iter().find_map(env::var_os) {
            return Ok(PathBuf::from(path));
        }
        // target/debug/deps/integration-0123 or target/release/demo: pgusher is near.
        let here = env::current_exe().unwrap_or_default();
        let near = here
            .ancestors()
            .skip(1)
            .take(2)
            .map(|dir| dir.join("pgusher"));
        near.into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| StartError::Missing {
                program: "pgusher".to_owned(),
                hint: "build it first: cargo build --bin pgusher".to_owned(),
            })
    }

    /// Waits until it answers a startup packet, with whatever it likes.
    async fn wait_ready(
        &self,
        process: &mut Process,
        scratch: &Scratch,
        port: u16,
    ) -> Result<(), StartError> {
        let (tcp, unix) = (Address::local(port), Address::in_dir(scratch.path(), port));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is_up = match &self.given {
                Some((_, address)) => answers(address).await,
                // Where TCP was asked for, a unix socket alone would mean that the port was lost; on
                // a shared port, it may be another who answers.
                None => {
                    (self.port_use != PortUse::Shared && answers(&tcp).await)
                        || (!self.surely_listens_on_tcp() && answers(&unix).await)
                }
            };
            if is_up {
                return Ok(());
            }
            if let Some(error) = process.early_exit() {
                return Err(error);
            }
            if Instant::now() > deadline {
                return Err(process.silent());
            }
            sleep(GLANCE).await;
        }
    }

    fn surely_listens_on_tcp(&self) -> bool {
        let listens = |(name, value): &(String, String)| name == "listen_addr" && !value.is_empty();
        self.port_use != PortUse::Shared
            && self.whole_ini.is_none()
            && self.settings.iter().any(listens)
    }
}

async fn answers(address: &Address) -> bool {
    let Ok(mut client) = FakeClient::try_connect(address).await else {
        return false;
    };
    let hello = startup_packet(&[("user", "pgbouncer"), ("database", "pgbouncer")]);
    let answer = async { client.try_send_raw(&hello).await.is_ok() && client.answers().await };
    timeout(Duration::from_secs(5), answer)
        .await
        .unwrap_or(false)
}

fn put(pairs: &mut Vec<(String, String)>, name: &str, value: &str) {
    match pairs.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => pairs.push((name.to_owned(), value.to_owned())),
    }
}

fn fill(text: &str, scratch: &Scratch, port: u16) -> String {
    text.replace("{dir}", &scratch.path().display().to_string())
        .replace("{port}", &port.to_string())
}

/// The program itself, or a copy of it where the servers' account can reach it.
///
/// Root's home is closed to others, and often that is where root builds.
fn reachable(program: &Path, account: Account) -> Result<PathBuf, StartError> {
    let io = StartError::io;
    let missing = format!("looking for {}", program.display());
    let original = fs::canonicalize(program).map_err(io(missing))?;
    if account.reaches(&original) {
        return Ok(original);
    }
    copy(&original).map_err(io(format!("copying {}", original.display())))
}

fn copy(original: &Path) -> io::Result<PathBuf> {
    let about = fs::metadata(original)?;
    let made = about
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let name = original.file_name().unwrap_or_default().to_string_lossy();
    let shared = shared_dir()?;
    let copied = shared.join(format!("{name}-{}-{made}", about.len()));
    let _turn = lock(&shared.join(format!("{name}.lock")))?;
    if !copied.exists() {
        forget_older(&shared, &format!("{name}-"))?;
        let unfinished = copied.with_extension("new");
        fs::copy(original, &unfinished)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))?;
        fs::rename(&unfinished, &copied)?;
    }
    Ok(copied)
}

fn forget_older(dir: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
