//! A line: one client's connection, over which it plays scripts and keeps all that it hears.

use std::time::Duration;

use testkit::{Address, FakeClient, Message};
use tokio::time::timeout;

use super::answers::Answers;
use super::script::{LAST_WORD, Owner, Script, greeting};

/// A connection to PostgreSQL or to a pooler; opened when needed, again after each end.
pub(super) struct Line {
    address: Address,
    database: &'static str,
    /// How long it may say nothing before it counts as stuck.
    silence_max: Duration,
    client: Option<(Owner, FakeClient)>,
}

/// All that was heard during a script.
pub(super) struct Stream {
    pub(super) messages: Vec<Message>,
    pub(super) end: End,
}

/// How a script's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the answer to its last query.
    Ready,
    /// The other side closed.
    Closed,
    /// The other side owes an answer, and does not give it.
    Silent,
}

impl Line {
    pub(super) fn new(address: Address, database: &'static str, silence_max: Duration) -> Self {
        Self {
            address,
            database,
            silence_max,
            client: None,
        }
    }

    /// Says all of the script, and returns all that it hears. With the answers of another it
    /// makes the script's pauses, until it has heard as much.
    pub(super) async fn play(&mut self, script: &Script, answers: Option<&Answers>) -> Stream {
        let mut stream = Stream {
            messages: Vec::new(),
            end: End::Ready,
        };
        let client = self.client.take();
        let mut client = match client.filter(|(owner, _)| *owner == script.owner) {
            Some((_, client)) => client,
            None => match self.open(script.owner, &mut stream).await {
                Some(client) => client,
                None => return stream,
            },
        };
        let mut unsent = Vec::new();
        for (at, message) in script.messages().iter().enumerate() {
            message.encode_into(&mut unsent);
            let pause = answers.filter(|_| script.pauses_at(at));
            if let Some(count) = pause.and_then(|answers| answers.heard_by(at)) {
                say(&mut client, script, &std::mem::take(&mut unsent)).await;
                let enough = |heard: &[Message]| heard.len() >= count;
                self.listen(&mut client, &mut stream, enough).await;
            }
        }
        say(&mut client, script, &unsent).await;
        self.listen(&mut client, &mut stream, is_over).await;
        if stream.end == End::Ready {
            self.client = Some((script.owner, client));
        }
        stream
    }

    /// Logs in, and makes the client's table.
    async fn open(&self, owner: Owner, stream: &mut Stream) -> Option<FakeClient> {
        let mut client = FakeClient::login_trust(&self.address, "alice", self.database).await;
        client.send_all(&greeting(owner)).await;
        self.listen(&mut client, stream, is_over).await;
        (stream.end == End::Ready).then(|| {
            stream.messages.clear();
            client
        })
    }

    /// Reads on until this holds, or nothing more will come.
    async fn listen(
        &self,
        client: &mut FakeClient,
        stream: &mut Stream,
        holds: impl Fn(&[Message]) -> bool,
    ) {
        while stream.end == End::Ready && !holds(&stream.messages) {
            match timeout(self.silence_max, client.try_read()).await {
                Ok(Some(message)) => stream.messages.push(message),
                Ok(None) => stream.end = End::Closed,
                Err(_) => stream.end = End::Silent,
            }
        }
    }
}

/// Who has closed does not hear it, but what it said before can still be read.
async fn say(client: &mut FakeClient, script: &Script, bytes: &[u8]) {
    for piece in script.cut(bytes) {
        if client.try_send_raw(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Is the last query answered, to its ReadyForQuery?
fn is_over(heard: &[Message]) -> bool {
    let [.., row, _complete, ready] = heard else {
        return false;
    };
    ready.tag == b'Z' && row.values() == Some(vec![Some(LAST_WORD.into())])
}
