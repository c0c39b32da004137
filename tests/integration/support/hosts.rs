//! Two servers that listen on the same port.

use std::os::unix::fs::symlink;

use testkit::{FakeServer, FakeServerSetup, Scratch};

const PORT: u16 = 5432;

/// Two servers that listen on the same port, and the directories of their sockets.
pub(crate) struct TwoHosts {
    pub(crate) servers: [FakeServer; 2],
    dirs: [Scratch; 2],
}

impl TwoHosts {
    pub(crate) async fn start() -> Self {
        Self::of([FakeServer::setup(), FakeServer::setup()]).await
    }

    pub(crate) async fn of([left, right]: [FakeServerSetup; 2]) -> Self {
        let (left, left_dir) = host(left, "left").await;
        let (right, right_dir) = host(right, "right").await;
        Self {
            servers: [left, right],
            dirs: [left_dir, right_dir],
        }
    }

    pub(crate) fn conn_info(&self) -> String {
        let [left, right] = self.dirs.each_ref().map(|dir| dir.path().display());
        format!("host={left},{right} port={PORT} dbname=app")
    }

    /// The paths of their sockets, as the pooler knows them.
    pub(crate) fn sockets(&self) -> [String; 2] {
        let socket = |dir: &Scratch| dir.path().join(format!(".s.PGSQL.{PORT}"));
        self.dirs
            .each_ref()
            .map(|dir| socket(dir).display().to_string())
    }

    pub(crate) fn connections(&self) -> [usize; 2] {
        self.servers
            .each_ref()
            .map(|server| server.connections().len())
    }
}

async fn host(setup: FakeServerSetup, label: &str) -> (FakeServer, Scratch) {
    let server = setup.unix_socket().start().await;
    let dir = Scratch::new(label).unwrap();
    let name = format!(".s.PGSQL.{}", server.port());
    let socket = server.socket_dir().join(name);
    symlink(socket, dir.path().join(format!(".s.PGSQL.{PORT}"))).unwrap();
    (server, dir)
}
