//! A way to a fake server on which cancel requests wait at a gate.

use std::{io, sync::Arc};

use testkit::{Address, FakeServer, Gate};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Passes sessions on at once, and cancel requests when its gate is open.
pub(super) struct Toll {
    pub(super) gate: Gate,
    port: u16,
    keeper: JoinHandle<()>,
}

impl Toll {
    pub(super) async fn before(server: &FakeServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Gate::closed();
        let keeper = keep(listener, server.address(), Arc::new(gate.clone()));
        Self {
            gate,
            port,
            keeper: tokio::spawn(keeper),
        }
    }

    /// A connection string for a pooler's `[databases]`.
    pub(super) fn conn_info(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={database}", self.port)
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(listener: TcpListener, server: Address, gate: Arc<Gate>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (server, gate) = (server.clone(), gate.clone());
        tokio::spawn(async move {
            // Either side may end it; the other then sees its own end.
            let _ = pass(stream, &server, &gate).await;
        });
    }
}

async fn pass(mut stream: TcpStream, server: &Address, gate: &Gate) -> io::Result<()> {
    /// Length and code of a cancel request.
    const CANCEL: [u8; 8] = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e];
    let Address::Tcp(server) = server else {
        unreachable!("fake servers listen on TCP");
    };
    let mut front = [0; 8];
    stream.read_exact(&mut front).await?;
    if front == CANCEL {
        gate.pass().await;
    }
    let mut onward = TcpStream::connect(server).await?;
    onward.write_all(&front).await?;
    copy_bidirectional(&mut stream, &mut onward).await?;
    Ok(())
}
