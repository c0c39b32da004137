//! One client of the fake server, from its startup packet to its end.

mod entry;
mod extended;

use std::{collections::HashMap, io, sync::Arc};

use tokio::sync::watch;

use super::{
    Gate,
    answer::{Ask, Step, built_in},
    record::{Connection, End, Hall},
};
use crate::{
    address::Socket,
    inbox::Inbox,
    message::{Body, Message, Side, Startup, Tx},
};

/// How what the server sends is cut into writes.
#[derive(Clone)]
pub enum Chunks {
    /// As much as there is.
    Whole,
    /// So many bytes in each.
    Of(usize),
    /// These sizes in turn, again and again.
    Cycle(Vec<usize>),
}

/// More than this is sent although no answer is complete.
const OUT_MAX: usize = 64 * 1024;

/// Serves a connection to its end.
pub(super) async fn run(socket: Socket, hall: Arc<Hall>) {
    let socket = Arc::new(socket);
    let mut inbox = Inbox::new(socket.clone(), Side::Client);
    let Ok(Some((version, parameters))) = first_wish(&mut inbox, &socket, &hall).await else {
        return;
    };
    let connection = hall.arrives(&socket, version, parameters);
    let mut ordered = connection.end.subscribe();
    let session = Session {
        cancelled: connection.cancelled.subscribe(),
        hall,
        connection: connection.clone(),
        socket: socket.clone(),
        inbox,
        out: Vec::new(),
        tx: Tx::Idle,
        statements: HashMap::new(),
        portals: HashMap::new(),
        pipeline: Pipeline::Running,
    };
    let end = tokio::select! {
        end = session.serve() => end,
        Ok(end) = ordered.wait_for(|&end| end != End::NotYet) => *end,
    };
    if end == End::Reset {
        // Fails only on a socket that is closed already.
        let _ = socket.reset_on_drop();
    }
    drop(socket);
    connection.is_over();
}

/// Version and parameters of the session that the client wants, if it wants one.
async fn first_wish(
    inbox: &mut Inbox,
    socket: &Socket,
    hall: &Hall,
) -> io::Result<Option<(u32, Vec<(String, String)>)>> {
    loop {
        match inbox.startup().await? {
            Some(Startup::Session {
                version,
                parameters,
            }) => return Ok(Some((version, parameters))),
            Some(Startup::Tls | Startup::Gss) => socket.write_all(b"N").await?,
            Some(Startup::Cancel(key)) => {
                hall.cancel(key);
                return Ok(None);
            }
            None => return Ok(None),
        }
    }
}

struct Session {
    hall: Arc<Hall>,
    connection: Arc<Connection>,
    socket: Arc<Socket>,
    inbox: Inbox,
    out: Vec<u8>,
    tx: Tx,
    statements: HashMap<String, String>,
    portals: HashMap<String, Portal>,
    pipeline: Pipeline,
    cancelled: watch::Receiver<u32>,
}

#[derive(Clone)]
struct Portal {
    sql: String,
    values: Vec<Option<String>>,
}

/// After an error in the extended protocol nothing counts until Sync.
#[derive(PartialEq, Eq)]
enum Pipeline {
    Running,
    SkippingToSync,
}

/// Did an answer end well, or with an error message?
#[derive(PartialEq, Eq)]
enum Outcome {
    Done,
    Failed,
}

/// Only the tag and rows belong to Execute; its columns were told by Describe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Simple,
    Extended,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Close
    }
}

impl Session {
    async fn serve(mut self) -> End {
        let Ok(_seat) = self.log_in().await else {
            return End::Close;
        };
        loop {
            if let Err(end) = self.answer_next().await {
                return end;
            }
        }
    }

    async fn answer_next(&mut self) -> Result<(), End> {
        let message = self.hear().await?;
        if self.pipeline == Pipeline::SkippingToSync && !matches!(message.tag, b'S' | b'X') {
            return Ok(());
        }
        match message.tag {
            b'Q' => self.simple_query(&message).await,
            b'P' | b'B' | b'D' | b'E' | b'C' => {
                if self.extended(&message).await? == Outcome::Failed {
                    self.pipeline = Pipeline::SkippingToSync;
                    // PostgreSQL sends an error at once, without waiting for the Sync.
                    self.flush().await?;
                }
                Ok(())
            }
            b'S' => {
                self.pipeline = Pipeline::Running;
                if self.tx == Tx::Idle {
                    self.portals.clear();
                }
                self.ready().await
            }
            b'H' => Ok(self.flush().await?),
            b'X' => Err(End::Close),
            // What was still under way when a COPY failed.
            b'd' | b'c' | b'f' => Ok(()),
            _ => self.refuse("08P01", "invalid frontend message type").await,
        }
    }

    async fn simple_query(&mut self, message: &Message) -> Result<(), End> {
        let sql = Body(&message.body).text().unwrap_or_default();
        let statements: Vec<_> = sql.split(';').map(str::trim).collect();
        let wanted = statements.iter().filter(|sql| !sql.is_empty()).copied();
        let wanted: Vec<&str> = if wanted.clone().count() == 0 {
            vec![""]
        } else {
            wanted.collect()
        };
        for sql in wanted {
            let portal = Portal {
                sql: sql.to_owned(),
                values: Vec::new(),
            };
            if self.run(portal, Protocol::Simple).await? == Outcome::Failed {
                break;
            }
        }
        self.ready().await
    }

    /// Answers one statement.
    async fn run(&mut self, portal: Portal, protocol: Protocol) -> Result<Outcome, End> {
        self.cancelled.mark_unchanged();
        let ask = Ask {
            connection: self.connection.number,
            user: self.parameter("user").to_owned(),
            database: self.parameter("database").to_owned(),
            sql: portal.sql,
            values: portal.values,
            tx: self.tx,
        };
        let hall = self.hall.clone();
        let scripted = match &hall.setup.script {
            Some(script) => script(ask.clone()).await,
            None => None,
        };
        for step in scripted.unwrap_or_else(|| built_in(&ask, &hall)) {
            if self.walk(step, protocol).await? == Outcome::Failed {
                return Ok(Outcome::Failed);
            }
        }
        Ok(Outcome::Done)
    }

    async fn walk(&mut self, step: Step, protocol: Protocol) -> Result<Outcome, End> {
        match step {
            Step::Send(message) if message.tag == b'E' => {
                self.fail(&message);
                return Ok(Outcome::Failed);
            }
            Step::Send(message) if message.tag == b'T' && protocol == Protocol::Extended => {}
            Step::Send(message) => self.say(&message),
            Step::Raw(bytes) => self.out.extend(bytes),
            Step::Wait(gate) => return self.wait_at(&gate).await,
            Step::Stream { rows, row_len } => {
                let value = "x".repeat(row_len);
                self.send_often(&Message::data_row(&[Some(&value)]), rows)
                    .await?;
            }
            Step::CopyOut { rows, row_len } => {
                self.send_often(
                    &Message::copy_data(Side::Server, &vec![b'x'; row_len]),
                    rows,
                )
                .await?;
            }
            Step::CopyIn => return self.copy_in().await,
            Step::Tx(tx) => self.tx = tx,
            Step::Set { name, value } => {
                let told = &self.hall.setup.parameters;
                let known = told
                    .iter()
                    .find(|(known, _)| known.eq_ignore_ascii_case(&name));
                if let Some(message) =
                    known.map(|(name, _)| Message::parameter_status(name, &value))
                {
                    self.say(&message);
                }
            }
            Step::Die => {
                self.flush().await?;
                return Err(End::Close);
            }
            Step::DieAbruptly => {
                self.flush().await?;
                return Err(End::Reset);
            }
        }
        Ok(Outcome::Done)
    }

    async fn wait_at(&mut self, gate: &Gate) -> Result<Outcome, End> {
        self.flush().await?;
        tokio::select! {
            () = gate.pass() => Ok(Outcome::Done),
            Ok(()) = self.cancelled.changed() => {
                let text = "canceling statement due to user request";
                self.fail(&Message::error("ERROR", "57014", text));
                Ok(Outcome::Failed)
            }
            () = self.inbox.peer_gone() => Err(End::Close),
        }
    }

    async fn send_often(&mut self, message: &Message, times: u64) -> Result<(), End> {
        let encoded = message.encode();
        for _ in 0..times {
            self.out.extend_from_slice(&encoded);
            if self.out.len() >= OUT_MAX {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn copy_in(&mut self) -> Result<Outcome, End> {
        self.say(&Message::copy_in_response());
        self.flush().await?;
        let mut rows = 0;
        loop {
            let message = self.hear().await?;
            match message.tag {
                b'd' => rows += 1,
                b'c' => {
                    self.say(&Message::command_complete(&format!("COPY {rows}")));
                    return Ok(Outcome::Done);
                }
                b'f' => {
                    let why = Body(&message.body).text().unwrap_or_default();
                    let text = format!("COPY from stdin failed: {why}");
                    self.fail(&Message::error("ERROR", "57014", &text));
                    return Ok(Outcome::Failed);
                }
                // PostgreSQL ignores these here too.
                b'S' | b'H' => {}
                _ => {
                    let text = format!("unexpected message type during COPY from stdin: {message}");
                    self.fail(&Message::error("ERROR", "08P01", &text));
                    return Ok(Outcome::Failed);
                }
            }
        }
    }

    fn fail(&mut self, error: &Message) {
        if self.tx == Tx::Open {
            self.tx = Tx::Failed;
        }
        self.say(error);
    }

    async fn ready(&mut self) -> Result<(), End> {
        self.say(&Message::ready(self.tx));
        Ok(self.flush().await?)
    }

    fn say(&mut self, message: &Message) {
        message.encode_into(&mut self.out);
    }

    async fn hear(&mut self) -> Result<Message, End> {
        // A pipeline is answered in one piece, as PostgreSQL does.
        if self.out.len() >= OUT_MAX && !self.inbox.has_more() {
            self.flush().await?;
        }
        let message = self.inbox.next().await?.ok_or(End::Close)?;
        self.connection.hears(&message);
        Ok(message)
    }

    async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        let _turn = self.connection.writing.lock().await;
        let mut rest = &out[..];
        let sizes: &[usize] = match &self.hall.setup.chunks {
            Chunks::Whole => return self.socket.write_all(rest).await,
            Chunks::Of(size) => std::slice::from_ref(size),
            Chunks::Cycle(sizes) => sizes,
        };
        for &size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, later) = rest.split_at(size.clamp(1, rest.len()));
            self.socket.write_all(chunk).await?;
            // Whoever reads on this thread gets to see the chunk by itself.
            tokio::task::yield_now().await;
            rest = later;
        }
        Ok(())
    }

    fn parameter(&self, name: &str) -> &str {
        // The database is the user's namesake unless it is told.
        let given = self.connection.parameter(name);
        given
            .or_else(|| self.connection.parameter("user"))
            .unwrap_or_default()
    }
}
