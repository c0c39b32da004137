//! A lane: one client that lives three times, before PostgreSQL and before two pools.

use std::time::Duration;

use testkit::{Address, Message, transcript};

use super::answers::Answers;
use super::compare::{Verdict, compare, pids};
use super::coverage::Coverage;
use super::differences::Difference;
use super::line::{End, Line, Stream};
use super::script::{Owner, Script};

/// Databases with the same tables: one to ask directly, and those of the pools, by their seats.
pub(super) const DIRECT: &str = "direct";
pub(super) const ONE: &str = "one";
pub(super) const TWO: &str = "two";
pub(super) const POOLED: [&str; 2] = [ONE, TWO];

/// One client. When one of its connections ends, it begins a new life on all of them.
pub(super) struct Lane {
    pub(super) owner: Owner,
    direct: Line,
    pooled: [Line; 2],
    intended: Vec<&'static Difference>,
    pub(super) coverage: Coverage,
}

/// A script that reads otherwise through the pooler.
pub(super) struct Failure {
    pub(super) script: Script,
    told: String,
}

impl Lane {
    pub(super) fn new(
        number: usize,
        direct: &Address,
        pooled: &Address,
        intended: Vec<&'static Difference>,
        silence_max: Duration,
    ) -> Self {
        let line = |address: &Address, database| Line::new(address.clone(), database, silence_max);
        Self {
            owner: Owner {
                lane: number,
                life: 0,
            },
            direct: line(direct, DIRECT),
            pooled: POOLED.map(|database| line(pooled, database)),
            intended,
            coverage: Coverage::default(),
        }
    }

    /// Plays a script to PostgreSQL, then to both pools, and compares what is heard.
    pub(super) async fn play(&mut self, script: &Script) -> Result<(), Box<Failure>> {
        let asked = script.messages();
        let direct = self.direct.play(script, None).await;
        let Some(answers) = Answers::find(&asked, &direct.messages) else {
            return Err(Failure::of_postgresql(script, &direct));
        };
        self.coverage.note(script, &direct.messages, &answers);
        let [one, two] = &mut self.pooled;
        let pooled = tokio::join!(
            one.play(script, Some(&answers)),
            two.play(script, Some(&answers))
        );
        let mut all_ready = direct.end == End::Ready;
        for (database, pooled) in POOLED.into_iter().zip([pooled.0, pooled.1]) {
            match compare(&self.intended, &asked, &answers, &direct, &pooled) {
                Verdict::Fits(found) => self.coverage.note_differences(&found),
                Verdict::Parts {
                    direct: at,
                    pooled: pooled_at,
                } => {
                    let sides = [(&direct, at), (&pooled, pooled_at)];
                    return Err(Failure::of_pool(script, database, sides));
                }
            }
            let pids = pids(&pooled.messages);
            self.coverage
                .note_servers(database, script.owner.lane, pids);
            all_ready &= pooled.end == End::Ready;
        }
        self.owner.life += usize::from(!all_ready);
        Ok(())
    }
}

impl Failure {
    fn of_postgresql(script: &Script, direct: &Stream) -> Box<Self> {
        let told = format!(
            "The answers of PostgreSQL can't be told apart ({:?}):\n{}",
            direct.end,
            transcript(&direct.messages)
        );
        let script = script.clone();
        Box::new(Self { script, told })
    }

    fn of_pool(script: &Script, database: &str, sides: [(&Stream, usize); 2]) -> Box<Self> {
        let [direct, pooled] = sides.map(|(stream, at)| marked(stream, at));
        let told = format!("PostgreSQL:\n{direct}The pool {database}:\n{pooled}");
        let script = script.clone();
        Box::new(Self { script, told })
    }

    /// What was said and heard, for people.
    pub(super) fn tell(&self) -> String {
        format!("{}{}", self.script, self.told)
    }
}

/// A stream up to a little behind the place where it differs.
fn marked(stream: &Stream, at: usize) -> String {
    const BEHIND: usize = 4;
    let shown = &stream.messages[..stream.messages.len().min(at + BEHIND)];
    let line = |(place, message): (usize, &Message)| {
        let mark = if place == at { "here" } else { "    " };
        let mut told = message.to_string();
        if let Some((end, _)) = told.char_indices().nth(200) {
            told.truncate(end);
        }
        format!("{mark} < {told}\n")
    };
    let mut told: String = shown.iter().enumerate().map(line).collect();
    if shown.len() == stream.messages.len() {
        let mark = if at >= shown.len() { "here" } else { "    " };
        told += &format!("{mark} ({:?})\n", stream.end);
    }
    told
}
