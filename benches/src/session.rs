//! A client's connection: login, dialogue, farewell.

use std::{io, net::SocketAddr};

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use testkit::{Message, Side};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    door::{PASSWORD, Stream, Way},
    expected::Expected,
    failure::Failure,
    pieces::Piece,
    work::{Dialogue, Step},
};

/// The user and database of all clients.
pub(crate) const NAME: &str = "bench";

/// A client that is logged in.
pub(crate) struct Session {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Session {
    /// Connects and logs in.
    pub(crate) async fn open(
        address: SocketAddr,
        way: &Way,
        buffer_len: usize,
    ) -> Result<Self, Failure> {
        let connected = TcpStream::connect(address).await;
        let stream = connected.map_err(Failure::io(format!("connecting to {address}")))?;
        stream
            .set_nodelay(true)
            .map_err(Failure::io("setting TCP_NODELAY"))?;
        let stream = way.enter(stream).await;
        let stream = stream.map_err(Failure::io("beginning TLS"))?;
        let mut session = Self {
            stream,
            buffer: vec![0; buffer_len],
        };
        session.say(&[Piece::once(way.hello())]).await?;
        session.log_in().await?;
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

    /// Says this, and hears nothing.
    pub(crate) async fn say(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        for piece in pieces {
            for _ in 0..piece.times {
                let written = self.stream.write_all(&piece.bytes).await;
                written.map_err(Failure::io("sending"))?;
            }
        }
        let flushed = self.stream.flush().await;
        flushed.map_err(Failure::io("sending"))
    }

    async fn hear(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        self.hear_until(&mut Expected::new(pieces), u64::MAX).await
    }

    /// Hears an answer to its end, or until so much of it has come.
    pub(crate) async fn hear_until(
        &mut self,
        expected: &mut Expected<'_>,
        enough: u64,
    ) -> Result<(), Failure> {
        while !expected.is_met() && expected.heard() < enough {
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

    /// Answers what is asked after a startup packet, up to ReadyForQuery.
    async fn log_in(&mut self) -> Result<(), Failure> {
        let mut arrived = Vec::new();
        let mut scram = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
        loop {
            while let Some(message) = Message::take(Side::Server, &mut arrived) {
                match (message.tag, &message.body[..]) {
                    (b'R', [0, 0, 0, 0]) | (b'S' | b'K', _) => {}
                    (b'R', [0, 0, 0, 10, ..]) => {
                        let answer = Message::sasl_initial("SCRAM-SHA-256", scram.message());
                        self.say(&[Piece::once(answer.encode())]).await?;
                    }
                    (b'R', [0, 0, 0, 11, challenge @ ..]) => {
                        scram.update(challenge).map_err(Failure::scram)?;
                        let answer = Message::sasl_response(scram.message());
                        self.say(&[Piece::once(answer.encode())]).await?;
                    }
                    (b'R', [0, 0, 0, 12, proof @ ..]) => {
                        scram.finish(proof).map_err(Failure::scram)?;
                    }
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
        let len = match self.stream.read(&mut self.buffer).await {
            // A TLS connection without a farewell of its own.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read.map_err(Failure::io("receiving"))?,
        };
        Ok(&self.buffer[..len])
    }
}

#[cfg(test)]
mod tests {
    use testkit::{FakeServer, Step as Answer, Tx};

    use super::*;
    use crate::{door::Door, stage::local, work::Work};

    /// What client 7 comes to when its `SELECT 14` is answered like this.
    async fn answered(answer: Vec<Answer>) -> Result<(), Failure> {
        let server = FakeServer::setup().answer(move |_| std::future::ready(Some(answer.clone())));
        let server = server.start().await;
        let way = Way::through(Door::Trust);
        let mut session = Session::open(local(server.port()), &way, 4096).await?;
        let [dialogue, _] = Work::Simple.dialogues(7);
        session.talk(&dialogue).await?;
        session.leave().await
    }

    /// The right answer to that client, with its value replaced; ReadyForQuery follows by itself.
    fn row(value: &str) -> Answer {
        let [dialogue, _] = Work::Simple.dialogues(7);
        let Some(Step::Hear(pieces)) = dialogue.last() else {
            panic!("a question ends with its answer");
        };
        const READY_LEN: usize = 6;
        let (bytes, _ready) = pieces[0].bytes.split_at(pieces[0].bytes.len() - READY_LEN);
        let at = bytes.windows(2).rposition(|two| two == b"14");
        let at = at.expect("the value");
        Answer::Raw([&bytes[..at], value.as_bytes(), &bytes[at + 2..]].concat())
    }

    #[tokio::test]
    async fn the_right_answer_is_taken() {
        answered(vec![row("14")]).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_meant_for_another_client_ends_the_bench() {
        let failure = answered(vec![row("16")]).await.unwrap_err();

        assert!(matches!(failure, Failure::Wrong { .. }), "{failure}");
    }

    #[tokio::test]
    async fn an_answer_to_the_question_before_ends_the_bench() {
        let failure = answered(vec![row("15")]).await.unwrap_err();

        assert!(matches!(failure, Failure::Wrong { .. }), "{failure}");
    }

    #[tokio::test]
    async fn a_transaction_left_open_ends_the_bench() {
        let failure = answered(vec![row("14"), Answer::Tx(Tx::Open)]).await;
        let failure = failure.unwrap_err();

        assert!(matches!(failure, Failure::Wrong { .. }), "{failure}");
    }

    #[tokio::test]
    async fn half_an_answer_ends_the_bench() {
        let failure = answered(vec![row("14"), Answer::Die]).await.unwrap_err();

        assert!(matches!(failure, Failure::Closed { .. }), "{failure}");
    }
}
