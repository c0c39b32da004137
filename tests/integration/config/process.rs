//! The process among others: its files, its account, its place in the background.

use std::{
    fmt::Write,
    fs,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
};

use nix::{
    sys::{
        signal::kill,
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect},
    },
    unistd::{Group, Pid, Uid, getegid, getgroups},
};
use testkit::{Account, Address, FakeClient, Scratch, Signal, eventually};

use crate::support::pgusher;

#[tokio::test]
async fn the_pid_file_names_the_process_and_goes_with_it() {
    let mut pooler = pgusher(1).set("pidfile", "{dir}/pooler.pid").start().await;
    let path = pooler.dir().join("pooler.pid");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.trim(), pooler.pid().to_string());
    pooler.signal(Signal::SIGTERM);
    assert!(pooler.wait_exit().await.success());
    assert!(!path.exists());
}

#[tokio::test]
async fn a_pid_file_of_a_living_process_forbids_a_second_one_and_a_stale_one_does_not() {
    let living = format!("{}\n", std::process::id());
    let exit = pgusher(1)
        .set("pidfile", "{dir}/pooler.pid")
        .file("pooler.pid", &living)
        .run_to_exit()
        .await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    assert!(exit.log.contains("is running already"), "{}", exit.log);

    // Higher than any process id can be.
    for stale in ["4194305\n", "", "nonsense"] {
        let pooler = pgusher(1)
            .set("pidfile", "{dir}/pooler.pid")
            .file("pooler.pid", stale)
            .start()
            .await;
        let text = fs::read_to_string(pooler.dir().join("pooler.pid")).unwrap();
        assert_eq!(text.trim(), pooler.pid().to_string());
    }
}

fn socket(pooler: &testkit::Pooler) -> PathBuf {
    pooler.dir().join(format!(".s.PGSQL.{}", pooler.port()))
}

#[tokio::test]
async fn the_unix_socket_is_open_to_those_whom_the_settings_name() {
    for mode in [0o777, 0o700, 0o660] {
        let pooler = pgusher(1).set("unix_socket_mode", format!("0{mode:o}"));
        let pooler = pooler.start().await;
        let metadata = fs::metadata(socket(&pooler)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
    }
    let exit = pgusher(1).set("unix_socket_group", "no_such_group");
    let exit = exit.run_to_exit().await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
}

#[tokio::test]
async fn the_unix_socket_may_belong_to_another_group() {
    let group_of = |path: &Path| fs::metadata(path).map(|socket| socket.gid());
    if Uid::effective().is_root() {
        let daemon = Group::from_name("daemon").unwrap().unwrap().gid.as_raw();
        let (scratch, ini) = ini_of_a_socket("unix_socket_group = daemon");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgusher"));
        let command = command.args(["-q", "-u", "nobody"]).arg(&ini);
        let _started = Started(command.spawn().unwrap());
        let socket = scratch.path().join(".s.PGSQL.6432");
        eventually("the socket to be the daemon's", || {
            group_of(&socket).is_ok_and(|group| group == daemon)
        })
        .await;
        return;
    }
    let mut others = getgroups().unwrap();
    others.retain(|gid| *gid != getegid());
    for gid in others {
        let Some(group) = Group::from_gid(gid).unwrap() else {
            continue;
        };
        let pooler = pgusher(1).set("unix_socket_group", &group.name);
        let pooler = pooler.start().await;
        assert_eq!(group_of(&socket(&pooler)).unwrap(), gid.as_raw());
    }
}

#[tokio::test]
async fn as_many_wait_to_be_taken_in_as_listen_backlog_says() {
    for backlog in [1, 40] {
        let mut pooler = pgusher(1).set("listen_backlog", backlog).start().await;
        pooler.signal(Signal::SIGSTOP);
        // Until all of its threads rest, one of them may still take somebody in.
        eventually("all threads to stop", || are_stopped(pooler.pid())).await;
        let address = UnixAddr::new(&socket(&pooler)).unwrap();
        // Linux lets one more in.
        let mut in_line = Vec::new();
        for place in 0..=backlog + 1 {
            let flags = SockFlag::SOCK_NONBLOCK;
            let client =
                nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
                    .unwrap();
            let connected = connect(client.as_raw_fd(), &address);
            assert_eq!(
                connected.is_ok(),
                place <= backlog,
                "{place}: {connected:?}"
            );
            in_line.push(client);
        }
        pooler.signal(Signal::SIGCONT);
    }
}

/// Whether all threads of a process are stopped.
fn are_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line == "State:\tT (stopped)")
    })
}

#[tokio::test]
async fn the_unix_socket_goes_with_its_process_however_that_is_told_to_go() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut pooler = pgusher(1).start().await;
        assert!(socket(&pooler).exists());
        pooler.signal(signal);
        assert!(pooler.wait_exit().await.success(), "{signal}");
        assert!(!socket(&pooler).exists(), "{signal}");
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_unix_socket_is_refused_and_the_first_goes_on() {
    let first = pgusher(1).start().await;
    let exit = pgusher(1)
        .set("listen_addr", "")
        .set("listen_port", first.port())
        .set("unix_socket_dir", first.dir().display())
        .run_to_exit()
        .await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    assert!(exit.log.contains("unix socket is in use"), "{}", exit.log);
    FakeClient::connect(&first.unix_address()).await;
    first.console().await.show("POOLS").await;
}

#[tokio::test]
async fn a_socket_that_a_killed_process_left_is_taken_over() {
    let mut killed = pgusher(1).start().await;
    killed.signal(Signal::SIGKILL);
    killed.wait_exit().await;
    assert!(socket(&killed).exists());
    let next = pgusher(1)
        .port(killed.port())
        .set("unix_socket_dir", killed.dir().display())
        .start()
        .await;
    FakeClient::connect(&killed.unix_address()).await;
    next.console().await.show("POOLS").await;
}

#[tokio::test]
async fn one_address_that_can_not_be_had_is_a_warning_and_none_at_all_is_the_end() {
    // Documentation addresses are nobody's.
    let pooler = pgusher(1)
        .set("listen_addr", "192.0.2.1, 127.0.0.1")
        .start()
        .await;
    pooler
        .wait_for_log("WARNING cannot listen on 192.0.2.1")
        .await;

    let exit = pgusher(1)
        .set("listen_addr", "192.0.2.1")
        .run_to_exit()
        .await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let exit = pgusher(1)
        .set("listen_addr", "")
        .set("unix_socket_dir", "")
        .run_to_exit()
        .await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    assert!(exit.log.contains("nowhere to listen"), "{}", exit.log);
}

#[tokio::test]
async fn a_quiet_process_writes_to_its_log_file_alone() {
    let pooler = pgusher(1)
        .arg("-q")
        .set("logfile", "{dir}/pooler.log")
        .start()
        .await;
    let console = pooler.console().await;
    let text = || fs::read_to_string(pooler.dir().join("pooler.log")).unwrap();
    eventually("the login in the log file", || {
        text().contains("login attempt: db=pgbouncer user=testkit_admin tls=no")
    })
    .await;
    assert_eq!(pooler.log(), "");

    // A rotated file is let go by RELOAD.
    let old = pooler.dir().join("pooler.log.1");
    fs::rename(pooler.dir().join("pooler.log"), &old).unwrap();
    console.run("RELOAD").await;
    assert!(text().contains("RELOAD"), "{}", text());
    let rotated = fs::read_to_string(&old).unwrap();
    pooler.console().await;
    eventually("the second login in the new file", || {
        text().contains("login attempt: db=pgbouncer user=testkit_admin")
    })
    .await;
    assert_eq!(fs::read_to_string(&old).unwrap(), rotated);
}

/// A process started without the testkit's account: killed with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An ini that listens on a unix socket only, and the directory it is in.
fn ini_of_a_socket(more: &str) -> (Scratch, PathBuf) {
    let scratch = Scratch::new("process").unwrap();
    let dir = scratch.path().display().to_string();
    let more = more.replace("{dir}", &dir);
    let text = format!("[pgbouncer]\nunix_socket_dir = {dir}\nauth_type = any\n{more}");
    let ini = scratch.write("pooler.ini", &text).unwrap();
    (scratch, ini)
}

#[tokio::test]
async fn root_must_name_another_account_and_becomes_it() {
    if !Uid::effective().is_root() {
        return;
    }
    let (scratch, ini) = ini_of_a_socket("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgusher"));
    let refused = command.arg(&ini).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("will not run as root"), "{said}");
    assert!(!scratch.path().join(".s.PGSQL.6432").exists());

    for (user, words) in [
        ("root", "will not run as root"),
        ("no one", "no such account"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgusher"));
        let refused = command.args(["-u", user]).arg(&ini).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(words), "{said}");
    }

    let mut command = Command::new(env!("CARGO_BIN_EXE_pgusher"));
    let started = Started(
        command
            .args(["-q", "-u", "nobody"])
            .arg(&ini)
            .spawn()
            .unwrap(),
    );
    let status = format!("/proc/{}/status", started.0.id());
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    eventually("root to become nobody", || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let mut ids = ids.unwrap_or_default().split_whitespace();
        ids.all(|id| id == nobody.uid.to_string()) && scratch.path().join(".s.PGSQL.6432").exists()
    })
    .await;
}

/// The program, where the servers' account can reach it.
fn program_in(scratch: &Scratch) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_pgusher"));
    match Account::for_servers() {
        Account::Own => program,
        Account::Plain { .. } => {
            let copy = scratch.path().join("pgusher");
            fs::copy(program, &copy).unwrap();
            copy
        }
    }
}

/// A process that is nobody's child: killed with the test.
struct Background(Pid);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

#[tokio::test]
async fn a_daemon_needs_a_pid_file_and_goes_to_the_background() {
    let (scratch, ini) = ini_of_a_socket("logfile = {dir}/pooler.log\n");
    let program = program_in(&scratch);
    let start = || {
        let mut command = Account::for_servers().command(&program);
        command.arg("-d").arg(&ini).output().unwrap()
    };
    let refused = start();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("-d needs pidfile"), "{said}");

    let path = scratch.path().join("pooler.pid");
    let mut text = fs::read_to_string(&ini).unwrap();
    writeln!(text, "pidfile = {}", path.display()).unwrap();
    fs::write(&ini, text).unwrap();
    assert!(start().status.success());
    let pid = || fs::read_to_string(&path).unwrap_or_default();
    eventually("the pid file", || !pid().trim().is_empty()).await;
    let daemon = Background(Pid::from_raw(pid().trim().parse().unwrap()));
    FakeClient::connect(&Address::in_dir(scratch.path(), 6432)).await;

    kill(daemon.0, Signal::SIGTERM).unwrap();
    eventually("the daemon to end", || kill(daemon.0, None).is_err()).await;
    // Its number may soon be another's.
    std::mem::forget(daemon);
    assert!(!path.exists());
    let log = fs::read_to_string(scratch.path().join("pooler.log")).unwrap();
    assert!(
        log.contains("process up") && log.contains("process down"),
        "{log}"
    );
}
