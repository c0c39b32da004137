//! Clients that stopped reading in the middle of a large answer: what they take up, and whom they
//! hold up.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use testkit::{FakeServer, Message, Pooler, Tx};
use tokio::{task::JoinSet, time::sleep};

use super::{
    Effort, Figure,
    storm::{slowest_percent, watched_until},
    watched_over,
};
use crate::{
    client::Order,
    crowd::{Crowd, Load, all},
    door::{Door, Way},
    expected::Expected,
    failure::Failure,
    measure::Measure,
    pieces::{Piece, Pieces},
    process::{resident, socket_buffers},
    session::{NAME, Session},
    stage::{Running, Stage},
    subject::Program,
    work::{Dialogue, Step, Work, rows},
};

/// Whose waits are measured meanwhile.
const INSIDE: Load = Load::staying(Work::Simple, 16);

/// An answer has 1 GB.
const ROWS: usize = 1_000_000;
const ROW_LEN: usize = 1000;

/// How much of it a client reads before it stops, so that buffers have grown by then.
const READ: u64 = 256 * 1024;

/// Clients that stop reading, by who sends to them.
#[derive(Clone, Copy)]
pub(crate) struct Stalled {
    /// A scripted server.
    pub(crate) streamed: usize,
    /// PostgreSQL.
    pub(crate) queried: usize,
}

/// One of them.
struct Reader {
    session: Session,
    heard: u64,
}

/// One kind of them.
struct Readers {
    question: Pieces,
    answer: Pieces,
    readers: Vec<Reader>,
}

/// One round, on a fresh pooler, with a seat for each of them.
pub(crate) async fn round(
    stage: &Stage,
    program: Program,
    stalled: Stalled,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(240);
    let Stalled { streamed, queried } = stalled;
    let server = FakeServer::start().await;
    let streams = format!("{} pool_size={streamed}", server.conn_info(STREAMED));
    let queries = format!("{} pool_size={queried}", stage.conn_info());
    let setup = (stage.pooler(program, Door::Trust))
        .database(STREAMED, &streams)
        .database(QUERIED, &queries);
    let running = Running::of(setup).await?;
    watched_over(&running, LIMIT, measure(&running, stalled, effort)).await
}

const STREAMED: &str = "streamed";
const QUERIED: &str = "queried";

async fn measure(
    running: &Running,
    stalled: Stalled,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    let Some(pooler) = running.pooler() else {
        return Ok(Vec::new());
    };
    let inside = Crowd::gather(INSIDE, running.address()).await?;
    let (inside, _) = inside.work(Order::Times(INSIDE.work.warm_up())).await?;
    let (inside, mut before, ()) = watched_until(inside, some_time(effort)).await?;

    let (memory_before, kernel_before) = (resident(pooler), socket_buffers());
    let mut streamed = Readers::of(streamed_dialogue());
    streamed
        .come(STREAMED, stalled.streamed, running.address())
        .await?;
    let mut queried = Readers::of(rows("stalled ", ROW_LEN / 8, ROWS));
    queried
        .come(QUERIED, stalled.queried, running.address())
        .await?;
    settled(pooler).await;
    let (memory, kernel) = (resident(pooler), socket_buffers());

    let (inside, mut during, ()) = watched_until(inside, some_time(effort)).await?;
    let growth = resident(pooler) as f64 - memory as f64;
    inside.leave().await?;
    streamed.one_reads_on().await?;
    queried.one_reads_on().await?;

    let clients = (stalled.streamed + stalled.queried) as f64;
    let (before, during) = (slowest_percent(&mut before), slowest_percent(&mut during));
    Ok(vec![
        (
            Measure::BytesPerStalledClient,
            (memory as f64 - memory_before as f64) / clients,
        ),
        (
            Measure::KernelBytesPerStalledClient,
            (kernel as f64 - kernel_before as f64) / clients,
        ),
        (Measure::StalledGrowth, growth / 1024.0),
        (Measure::SlowestPercent, during.as_secs_f64() * 1e6),
        (Measure::Growth, during.as_secs_f64() / before.as_secs_f64()),
    ])
}

async fn some_time(effort: Effort) -> Result<(), Failure> {
    sleep(effort.watch).await;
    Ok(())
}

/// Returns once the pooler has taken all that it will take for now.
async fn settled(pooler: &Pooler) {
    const GLANCE: Duration = Duration::from_millis(500);
    const PATIENCE: Duration = Duration::from_secs(30);
    let started = Instant::now();
    let mut ticks = pooler.cpu_ticks();
    loop {
        sleep(GLANCE).await;
        let now = pooler.cpu_ticks();
        if now - ticks <= 1 || started.elapsed() > PATIENCE {
            return;
        }
        ticks = now;
    }
}

impl Readers {
    fn of(dialogue: Dialogue) -> Self {
        let (mut question, mut answer) = (Pieces::new(), Pieces::new());
        for step in dialogue {
            match step {
                Step::Say(pieces) => question.extend(pieces),
                Step::Hear(pieces) => answer.extend(pieces),
            }
        }
        Self {
            question,
            answer,
            readers: Vec::new(),
        }
    }

    /// Has so many come, ask, read a little, and stop.
    async fn come(
        &mut self,
        database: &str,
        count: usize,
        address: SocketAddr,
    ) -> Result<(), Failure> {
        const AT_ONCE: usize = 16;
        let way = Way::through(Door::Trust).to(database, NAME);
        while self.readers.len() < count {
            let room = count - self.readers.len();
            let mut coming = JoinSet::new();
            for _ in 0..room.min(AT_ONCE) {
                let way = way.clone();
                let (question, answer) = (self.question.clone(), self.answer.clone());
                coming.spawn(Reader::begin(address, way, question, answer));
            }
            self.readers.extend(all(coming).await?);
        }
        Ok(())
    }

    /// One of them hears the rest, of which nothing was lost. The others leave in the middle.
    async fn one_reads_on(self) -> Result<(), Failure> {
        let Some(mut reader) = self.readers.into_iter().next() else {
            return Ok(());
        };
        let mut expected = Expected::after(&self.answer, reader.heard);
        reader.session.hear_until(&mut expected, u64::MAX).await?;
        reader.session.leave().await
    }
}

impl Reader {
    async fn begin(
        address: SocketAddr,
        way: Way,
        question: Pieces,
        answer: Pieces,
    ) -> Result<Self, Failure> {
        let mut session = Session::open(address, &way, Work::Rows.buffer_len()).await?;
        session.say(&question).await?;
        let mut expected = Expected::new(&answer);
        session.hear_until(&mut expected, READ).await?;
        let heard = expected.heard();
        Ok(Self { session, heard })
    }
}

/// What the scripted server streams.
fn streamed_dialogue() -> Dialogue {
    let row = Message::data_row(&[Some(&"x".repeat(ROW_LEN))]);
    let whole = |message: Message| Piece::once(message.encode());
    vec![
        Step::Say(vec![whole(Message::query(&format!(
            "STREAM {ROWS} {ROW_LEN}"
        )))]),
        Step::Hear(vec![
            whole(Message::row_description(&["stream"])),
            Piece::repeated(row.encode(), ROWS),
            whole(Message::command_complete(&format!("SELECT {ROWS}"))),
            whole(Message::ready(Tx::Idle)),
        ]),
    ]
}
