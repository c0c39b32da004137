//! Processes that do not keep to the words of a take-over.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use testkit::{Address, FakeClient, FakeServer, Pooler, Scratch};

use crate::support::{alice, before};

/// The place where a process is asked for its sockets.
fn place(process: &Pooler) -> String {
    let Address::Unix(socket) = process.unix_address() else {
        unreachable!()
    };
    format!("{}.take-over", socket.display())
}

/// Speaks like an heir up to this word, and reads until the back door is told.
fn false_heir(process: &Pooler, taken: &str) -> UnixStream {
    let mut heir = UnixStream::connect(place(process)).unwrap();
    let hears = |until: &str, heir: &mut UnixStream| {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(until) {
            let mut byte = [0];
            assert_eq!(heir.read(&mut byte).unwrap(), 1, "{heard:?}");
            heard.push(byte[0]);
        }
    };
    heir.write_all(b"pgusher take-over 1\n").unwrap();
    hears("sockets\n", &mut heir);
    heir.write_all(format!("{taken}\n").as_bytes()).unwrap();
    hears("door ", &mut heir);
    hears("\n", &mut heir);
    heir
}

#[tokio::test]
async fn an_heir_that_breaks_the_rules_gets_no_client() {
    let server = FakeServer::start().await;
    // Each is at the end of what it says, or goes on with what was never asked.
    let long = (1u32 << 30).to_be_bytes();
    for words in [
        &b""[..],
        b"\0\0\0\x01\x09",
        b"\0\0\0\x03\x10xx",
        b"\0\0\0\0",
        b"nonsense that is no frame at all",
        &long,
    ] {
        let first = before(&server, 1).start().await;
        let mut client = alice(&first).await;
        let mut heir = false_heir(&first, "taken 1");
        // What it gets it does not answer.
        let mut some = [0; 64];
        heir.read_exact(&mut some).unwrap();
        for byte in words {
            heir.write_all(&[*byte]).unwrap();
        }
        heir.flush().unwrap();
        drop(heir);
        first
            .wait_for_log("the process that has taken over is gone")
            .await;
        assert_eq!(client.query_value("SELECT 'here'").await, "here");
    }
}

#[tokio::test]
async fn an_heir_of_another_version_gets_the_listening_sockets_alone() {
    let server = FakeServer::start().await;
    for (taken, version) in [("taken", "none"), ("taken 2", "2")] {
        let first = before(&server, 1).start().await;
        let mut client = alice(&first).await;
        let _heir = false_heir(&first, taken);
        let told = format!("takes over in version {version}, we hand over in 1");
        first.wait_for_log(&told).await;
        assert_eq!(client.query_value("SELECT 'here'").await, "here");
        client.close().await;
        super::ends(first).await;
    }
}

/// Sends words, and these sockets with them.
fn send(stream: &UnixStream, words: &[u8], sockets: &[RawFd]) {
    let rights = [ControlMessage::ScmRights(sockets)];
    let words = [IoSlice::new(words)];
    sendmsg::<()>(stream.as_raw_fd(), &words, &rights, MsgFlags::empty(), None).unwrap();
}

#[tokio::test]
async fn an_heir_serves_whatever_the_old_process_says() {
    let server = FakeServer::start().await;
    for (offer, words) in [
        ("hands 1 0\n", &b"\0\0\0\x05\x04junk"[..]),
        ("hands 1 0\n", b"\0\0\0\x08\x03\0\0\0\0\0\0\0\0"),
        ("hands 1 0\n", b"\xff\xff\xff\xff"),
        ("hands 1 0\n", b""),
        ("hands 2 0\n", b""),
        ("hands nonsense\n", b""),
        ("", b""),
    ] {
        let dir = Scratch::new("elder").unwrap();
        let sockets = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = sockets.local_addr().unwrap().port();
        let meeting = dir.path().join(format!(".s.PGSQL.{port}.take-over"));
        let open_to_all = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open_to_all.clone()).unwrap();
        let listener = UnixListener::bind(&meeting).unwrap();
        std::fs::set_permissions(&meeting, open_to_all).unwrap();
        let meeting = listener;
        let elder = std::thread::spawn(move || {
            let (mut heir, _) = meeting.accept().unwrap();
            let mut hello = [0; b"pgusher take-over 1\n".len()];
            heir.read_exact(&mut hello).unwrap();
            heir.write_all(offer.as_bytes()).unwrap();
            let fds = [meeting.as_raw_fd(), sockets.as_raw_fd()];
            send(&heir, b"sockets\n", &fds);
            let mut taken = [0; 5];
            heir.read_exact(&mut taken).unwrap();
            heir.write_all(b"door /nowhere\n").unwrap();
            for byte in words {
                let _ = heir.write_all(&[*byte]);
            }
        });
        let heir = before(&server, 1)
            .arg("-R")
            .inherited_port(port)
            .set("unix_socket_dir", dir.path().display())
            .start()
            .await;
        let tcp = heir.address();
        let mut client = FakeClient::login_trust(&tcp, "alice", "app").await;
        assert_eq!(client.query_value("SELECT 'here'").await, "here");
        elder.join().unwrap();
    }
}

#[tokio::test]
async fn after_an_heir_that_failed_its_clients_are_where_they_were() {
    let server = FakeServer::start().await;
    let setup = before(&server, 3);
    let first = setup.clone().start().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(alice(&first).await);
    }
    drop(false_heir(&first, "taken 1"));
    first
        .wait_for_log("the process that has taken over is gone")
        .await;
    for client in &mut clients {
        assert_eq!(client.query_value("SELECT 'here'").await, "here");
    }
}
