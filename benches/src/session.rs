//! A client's connection: login, dialogue, farewell.

use std::net::SocketAddr;

use testkit::{Message, Side, startup_packet};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    expected::Expected,
    failure::Failure,
    pieces::Piece,
    work::{Dialogue, Step},
};

/// The user and database of all clients.
pub(crate) const NAME: &str = "bench";

/// A client that is logged in.
pub(crate) struct Session {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Session {
    /// Connects and logs in; the address asks for no password.
    pub(crate) async fn open(address: SocketAddr, buffer_len: usize) -> Result<Self, Failure> {
        let connected = TcpStream::connect(address).await;
        let stream = connected.map_err(Failure::io(format!("connecting to {address}")))?;
        stream
            .set_nodelay(true)
            .map_err(Failure::io("setting TCP_NODELAY"))?;
        let mut session = Self {
            stream,
            buffer: vec![0; buffer_len],
        };
        let hello = startup_packet(&[("user", NAME), ("database", NAME)]);
        session.say(&[Piece::once(hello)]).await?;
        session.welcome().await?;
        Ok(session)
    }

    /// Says and hears one transaction.
    pub(crate) async fn talk(&mut self, dialogue: &Dialogue) -> Result<(), Failure> {
        for step in dialogue {
            match step {
                Step::Say(pieces) => self.say(pieces).await?,
                Step::Hear(pieces) => self.hear(pieces).await?,
            }
        }
        Ok(())
    }

    /// Says farewell, and waits until the other side has closed without another word.
    pub(crate) async fn leave(mut self) -> Result<(), Failure> {
        self.say(&[Piece::once(Message::terminate().encode())])
            .await?;
        match self.read().await? {
            [] => Ok(()),
            more => Expected::new(&[]).hear(more),
        }
    }

    async fn say(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        for piece in pieces {
            for _ in 0..piece.times {
                let written = self.stream.write_all(&piece.bytes).await;
                written.map_err(Failure::io("sending"))?;
            }
        }
        Ok(())
    }

    async fn hear(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        let mut expected = Expected::new(pieces);
        while !expected.is_met() {
            match self.read().await? {
                [] => {
                    return Err(Failure::Closed {
                        at: expected.heard(),
                    });
                }
                arrived => expected.hear(arrived)?,
            }
        }
        Ok(())
    }

    /// Reads the answer to a startup packet up to ReadyForQuery.
    async fn welcome(&mut self) -> Result<(), Failure> {
        let mut arrived = Vec::new();
        loop {
            while let Some(message) = Message::take(Side::Server, &mut arrived) {
                match (message.tag, &message.body[..]) {
                    (b'R', [0, 0, 0, 0]) | (b'S' | b'K', _) => {}
                    (b'Z', b"I") if arrived.is_empty() => return Ok(()),
                    _ => return Err(Failure::Login(message.to_string())),
                }
            }
            match self.read().await? {
                [] => return Err(Failure::Login("closed".to_owned())),
                more => arrived.extend_from_slice(more),
            }
        }
    }

    /// What has arrived; nothing is the end.
    async fn read(&mut self) -> Result<&[u8], Failure> {
        let read = self.stream.read(&mut self.buffer).await;
        let len = read.map_err(Failure::io("receiving"))?;
        Ok(&self.buffer[..len])
    }
}
