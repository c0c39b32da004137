//! Writes scripts: random, mostly valid, some slightly not.

mod copies;
mod extended;

use testkit::{Message, Side};

use super::dice::Dice;
use super::script::{Owner, Script, Step, leans_on_the_session};
use super::sql::{FUNCTIONS, QUERIES, Statement, TRANSACTIONS};

/// What scripts are mostly about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Topic {
    Everything,
    Statements,
    Copies,
}

#[derive(Clone, Copy)]
enum Phrase {
    Query,
    /// A whole transaction; within one, what only makes sense there.
    Block,
    Extended,
    Pipeline,
    CopyIn,
    CopyOut,
    Call,
    Stray,
}

impl Topic {
    fn phrases(self) -> [(usize, Phrase); 8] {
        let weights = match self {
            Self::Everything => [20, 20, 25, 20, 5, 4, 5, 3],
            Self::Statements => [6, 8, 35, 45, 1, 1, 2, 2],
            Self::Copies => [10, 10, 10, 10, 40, 10, 2, 8],
        };
        let [
            query,
            block,
            extended,
            pipeline,
            copy_in,
            copy_out,
            call,
            stray,
        ] = weights;
        [
            (query, Phrase::Query),
            (block, Phrase::Block),
            (extended, Phrase::Extended),
            (pipeline, Phrase::Pipeline),
            (copy_in, Phrase::CopyIn),
            (copy_out, Phrase::CopyOut),
            (call, Phrase::Call),
            (stray, Phrase::Stray),
        ]
    }
}

/// Writes one script.
pub(super) struct Author {
    dice: Dice,
    owner: Owner,
    said: Vec<Message>,
    /// What it has prepared by name, if all went well.
    known: Vec<(&'static str, &'static Statement)>,
}

impl Author {
    /// The script of this number for this client.
    pub(super) fn script(seed: u64, owner: Owner, number: usize, topic: Topic) -> Script {
        let mut author = Self {
            dice: Dice::new(seed, &[owner.lane as u64, number as u64]),
            owner,
            said: Vec::new(),
            known: Vec::new(),
        };
        loop {
            author.draft(topic);
            let script = author.paced();
            if !leans_on_the_session(&script.steps) {
                return script;
            }
        }
    }

    fn draft(&mut self, topic: Topic) {
        self.said.clear();
        self.known.clear();
        for _ in 0..1 + self.dice.below(4) {
            match self.dice.weighed(&topic.phrases()) {
                Phrase::Block => self.block(topic),
                phrase => self.phrase(phrase),
            }
        }
        let other = self.sql("{x}").into_bytes();
        let uses_other = |said: &Message| said.body.windows(other.len()).any(|part| part == other);
        if self.said.iter().any(uses_other) && self.dice.percent(70) {
            let create = self.sql("CREATE TABLE IF NOT EXISTS {x} (n int, w text)");
            self.said.insert(0, Message::query(&create));
        }
        if self.dice.percent(25) {
            for _ in 0..1 + self.dice.below(3) {
                self.blunder();
            }
        }
    }

    fn phrase(&mut self, phrase: Phrase) {
        match phrase {
            Phrase::Query => self.query(&QUERIES),
            Phrase::Block => self.query(&TRANSACTIONS),
            Phrase::Extended => self.extended(),
            Phrase::Pipeline => self.pipeline(),
            Phrase::CopyIn => self.copy_in(),
            Phrase::CopyOut => self.copy_out(),
            Phrase::Call => self.call(),
            Phrase::Stray => self.stray(),
        }
    }

    /// A transaction, nearly always ended.
    fn block(&mut self, topic: Topic) {
        if self.dice.percent(90) {
            self.query(&["BEGIN"]);
        }
        for _ in 0..self.dice.below(4) {
            let phrase = self.dice.weighed(&topic.phrases());
            self.phrase(phrase);
        }
        if self.dice.percent(90) {
            self.query(&["COMMIT", "ROLLBACK"]);
        }
    }

    /// Its messages with pauses here and there, and where they are cut.
    fn paced(&mut self) -> Script {
        let pauses = self.dice.pick(&[0, 0, 30, 100]);
        let step = |say: &Message| Step {
            say: say.clone(),
            pause: self.dice.percent(pauses),
        };
        let steps = self.said.iter().map(step).collect();
        let cuts = self.dice.percent(40).then(|| self.dice.roll());
        Script {
            owner: self.owner,
            steps,
            cuts,
        }
    }

    fn say(&mut self, message: Message) {
        self.said.push(message);
    }

    /// SQL about this client's tables.
    fn sql(&self, template: &str) -> String {
        let (table, other) = (format!("t{}", self.owner), format!("x{}", self.owner));
        template.replace("{t}", &table).replace("{x}", &other)
    }

    fn query(&mut self, from: &[&str]) {
        let template = self.dice.pick(from);
        let sql = self.sql(template);
        self.say(Message::query(&sql));
        if template.contains("FROM STDIN;") {
            self.copy_body();
            self.copy_body();
        }
    }

    fn call(&mut self) {
        let (function, choices) = self.dice.pick(&FUNCTIONS);
        let arguments = choices.iter().map(|choices| self.dice.pick(choices));
        let arguments: Vec<_> = arguments.collect();
        self.say(Message::function_call(function, &arguments));
    }

    /// What makes sense elsewhere.
    fn stray(&mut self) {
        let message = match self.dice.below(8) {
            0 => Message::sync(),
            1 => Message::flush(),
            2 => self.copy_data(),
            3 => Message::copy_done(Side::Client),
            4 => Message::copy_fail("of nothing"),
            5 => Message::execute(self.portal()),
            6 => Message::describe_portal(self.portal()),
            _ => Message::close_statement(self.name()),
        };
        self.say(message);
    }

    /// Leaves a message out, says it twice or too early, or in a form that can't be.
    fn blunder(&mut self) {
        if self.said.is_empty() {
            return;
        }
        let at = self.dice.below(self.said.len());
        match self.dice.below(8) {
            0..3 => drop(self.said.remove(at)),
            3..5 => self.said.insert(at, self.said[at].clone()),
            5..7 => self.said.swap(at.saturating_sub(1), at),
            _ => self.garble(at),
        }
    }

    /// What has a name of something loses what kind of thing that is; others have a byte too much.
    fn garble(&mut self, at: usize) {
        let message = &mut self.said[at];
        match (message.tag, message.body.first_mut()) {
            (b'D' | b'C', Some(kind)) => *kind = b'X',
            (b'E' | b'B', _) => message.body.push(0),
            _ => {}
        }
    }
}
