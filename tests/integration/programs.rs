//! Programs that people run beside a server: started, waited for, and heard.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{sys::signal::kill, unistd::Pid};
use testkit::{PoolerSetup, Postgres, Scratch, Signal, client_program, eventually};

use crate::support::{WORKERS, major_version, pgusher, postgres};

/// A pooler for `alice` and her password.
pub(crate) fn for_alice(workers: u32, mode: &str, seats: u32, postgres: &Postgres) -> PoolerSetup {
    pgusher(workers)
        .database("app", &postgres.conn_info("app"))
        .user("alice", "secret")
        .set("pool_mode", mode)
        .set("default_pool_size", seats)
}

/// A program that runs by itself, until dropped at the latest.
pub(crate) struct Running {
    child: Child,
    scratch: Scratch,
}

/// What a program had to say.
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Where programs find their server.
pub(crate) struct Place {
    host: PathBuf,
    port: u16,
}

impl Place {
    pub(crate) fn tcp(port: u16) -> Self {
        Self {
            host: "127.0.0.1".into(),
            port,
        }
    }

    pub(crate) fn unix(dir: &Path, port: u16) -> Self {
        Self {
            host: dir.into(),
            port,
        }
    }
}

impl Running {
    pub(crate) fn start(program: &Path, place: &Place, args: &[&str]) -> Self {
        let scratch = Scratch::new("client").unwrap();
        let file = |name| File::create(scratch.path().join(name)).unwrap();
        let child = Command::new(program)
            .args(args)
            .env_remove("PGOPTIONS")
            .env("PGHOST", OsStr::new(&place.host))
            .env("PGPORT", place.port.to_string())
            .envs([("PGUSER", "alice"), ("PGPASSWORD", "secret")])
            .envs([("PGDATABASE", "app"), ("PGCONNECT_TIMEOUT", "20")])
            .env("LC_ALL", "C.UTF-8")
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { child, scratch }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    pub(crate) async fn end(mut self) -> Said {
        let mut ended = None;
        eventually("the program's end", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        let read = |name| fs::read_to_string(self.scratch.path().join(name)).unwrap();
        Said {
            status: ended.unwrap(),
            out: read("out"),
            err: read("err"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert!(
            self.status.success(),
            "{}\n{}{}",
            self.status,
            self.out,
            self.err
        );
        self.out
    }
}

/// Whether a program is older than the PostgreSQL that the tests run with: what copies a whole
/// server refuses to have to do with newer ones.
pub(crate) async fn is_too_old(program: &str, postgres: &Postgres) -> bool {
    let said = Command::new(client_program(program))
        .arg("--version")
        .output();
    let said = String::from_utf8_lossy(&said.unwrap().stdout).into_owned();
    let version = said.split_whitespace().nth(2).unwrap();
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    major < major_version(postgres).await
}

pub(crate) async fn run(program: &str, place: &Place, args: &[&str]) -> Said {
    Running::start(&client_program(program), place, args)
        .end()
        .await
}

/// A driver's script. It makes its own checks, ends well if all hold, and is told who answers it:
/// PostgreSQL itself (`direct`), or a pooler in that mode.
pub(crate) struct Script {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<PathBuf>,
}

/// More servers than any script has connections at once.
const FOR_EVERYBODY: u32 = 40;

impl Script {
    /// In transaction mode, its connections share three servers.
    pub(crate) async fn holds_on_three_servers(&self) {
        let postgres = postgres().await;
        for workers in WORKERS {
            let setup = for_drivers(workers, "transaction", 3, &postgres);
            let pooler = setup.start().await;
            let place = Place::tcp(pooler.port());
            self.holds(&place, &["transaction"]).await;
        }
    }

    /// The same where a statement has often to be prepared again.
    pub(crate) async fn holds_on_forgetful_servers(&self) {
        let postgres = postgres().await;
        let setup = for_drivers(3, "transaction", 3, &postgres);
        let pooler = setup.set("max_prepared_statements", 2).start().await;
        let place = Place::tcp(pooler.port());
        self.holds(&place, &["transaction"]).await;
    }

    /// One of its checks, where there is but one server.
    pub(crate) async fn holds_on_one_server(&self, check: &str) {
        let postgres = postgres().await;
        for workers in WORKERS {
            let setup = for_drivers(workers, "transaction", 1, &postgres);
            let pooler = setup.start().await;
            let place = Place::tcp(pooler.port());
            self.holds(&place, &["transaction", check]).await;
        }
    }

    /// Without a pooler, and with servers of its own in session mode.
    pub(crate) async fn holds_directly_and_in_sessions(&self) {
        let postgres = postgres().await;
        self.holds(&Place::tcp(postgres.port()), &["direct"]).await;
        let setup = for_drivers(3, "session", FOR_EVERYBODY, &postgres);
        let pooler = setup.start().await;
        self.holds(&Place::tcp(pooler.port()), &["session"]).await;
    }

    async fn holds(&self, place: &Place, words: &[&str]) {
        let args = self.args.iter().map(|arg| arg.to_str().unwrap());
        let args: Vec<&str> = args.chain(words.iter().copied()).collect();
        let running = Running::start(&self.program, place, &args);
        let said = running.end().await.well();
        assert!(said.contains(" checks hold"), "{words:?}: {said}");
    }
}

/// A pooler for `alice` that overlooks what JDBC asks for at the start, as most do.
fn for_drivers(workers: u32, mode: &str, seats: u32, postgres: &Postgres) -> PoolerSetup {
    for_alice(workers, mode, seats, postgres).set("ignore_startup_parameters", "extra_float_digits")
}
