//! A script: what one client says from one state of rest to the next, and at which pace.

use std::fmt;

use testkit::Message;

use super::dice::Dice;

/// Names of statements that scripts use, beside the unnamed one.
pub(super) const STATEMENTS: [&str; 4] = ["s0", "s1", "s2", "s3"];

/// What a script's last query returns, and no other.
pub(super) const LAST_WORD: &str = "the end";

/// What one client says.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) owner: Owner,
    pub(super) steps: Vec<Step>,
    /// From which the lengths of TCP pieces follow; whole stretches between pauses without.
    pub(super) cuts: Option<u64>,
}

/// A client, known by the number of its lane and that of its life. Two tables are its own, named
/// after it: `t`, and now and then `x`. On a server that it has left in the middle, its statements
/// may go on for a while: they don't meet those of its next life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) lane: usize,
    pub(super) life: usize,
}

#[derive(Clone)]
pub(super) struct Step {
    pub(super) say: Message,
    /// Goes on only when all is heard that must have been answered by now.
    pub(super) pause: bool,
}

impl Script {
    /// Message by message, each after the answers to those before, but for what comes last.
    pub(super) fn patient(owner: Owner, say: Vec<Message>) -> Self {
        let last = say.len().saturating_sub(1);
        let steps = say.into_iter().enumerate();
        let steps = steps.map(|(at, say)| Step {
            say,
            pause: at < last,
        });
        Self {
            owner,
            steps: steps.collect(),
            cuts: None,
        }
    }

    /// All its messages, with those that bring client and tables back to where they began.
    pub(super) fn messages(&self) -> Vec<Message> {
        let said = self.steps.iter().map(|step| step.say.clone());
        said.chain(farewell(self.owner)).collect()
    }

    /// Does it pause behind the message at this place?
    pub(super) fn pauses_at(&self, at: usize) -> bool {
        self.steps.get(at).is_some_and(|step| step.pause)
    }

    /// Cuts bytes as the script wants them sent.
    pub(super) fn cut<'a>(&self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let Some(seed) = self.cuts else {
            return vec![bytes];
        };
        let mut dice = Dice::new(seed, &[]);
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let most = dice.pick(&[4, 60, 400]);
            let (piece, rest) = bytes.split_at(bytes.len().min(1 + dice.below(most)));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// What a client says first, before any script.
pub(super) fn greeting(owner: Owner) -> Vec<Message> {
    let create = format!("CREATE TABLE t{owner} (n int, w text)");
    let mut all = vec![Message::query(&create)];
    all.extend(farewell(owner));
    all
}

/// From whatever state, back to where scripts begin: no COPY, no transaction, no statements,
/// parameters and tables as they were.
fn farewell(owner: Owner) -> Vec<Message> {
    let restore = format!(
        "ROLLBACK; RESET ALL; DROP TABLE IF EXISTS x{owner}; DELETE FROM t{owner}; \
         INSERT INTO t{owner} SELECT n, 'w' || n FROM generate_series(1, 5) n"
    );
    let mut all = vec![
        Message::copy_fail(LAST_WORD),
        Message::sync(),
        Message::query(&restore),
    ];
    all.extend(STATEMENTS.map(Message::close_statement));
    all.extend([
        Message::sync(),
        Message::query("SELECT pg_backend_pid()"),
        Message::query(&format!("SELECT '{LAST_WORD}'")),
    ]);
    all
}

/// The statement that a message makes, uses or closes.
pub(super) fn statement_of(message: &Message) -> Option<&str> {
    let mut texts = message.body.split(|&byte| byte == 0);
    let name = match message.tag {
        b'P' => texts.next(),
        b'B' => texts.nth(1),
        b'D' | b'C' => message.body.strip_prefix(b"S").map(until_nul),
        _ => None,
    };
    str::from_utf8(name?).ok()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

/// Would it use the unnamed statement of before a ReadyForQuery? That is state of the session,
/// and a client in transaction mode has another session then.
pub(super) fn leans_on_the_session(steps: &[Step]) -> bool {
    let mut is_fresh = false;
    for Step { say, .. } in steps {
        let unnamed = statement_of(say) == Some("");
        match say.tag {
            b'P' if unnamed => is_fresh = true,
            b'B' | b'D' if unnamed && !is_fresh => return true,
            b'Q' | b'F' | b'S' => is_fresh = false,
            _ => {}
        }
    }
    false
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { lane, life: 0 } => write!(f, "{lane}"),
            Self { lane, life } => write!(f, "{lane}_{life}"),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces = self.cuts.map_or(String::new(), |_| ", in pieces".into());
        writeln!(f, "client {}{pieces}:", self.owner)?;
        for step in &self.steps {
            let pause = if step.pause { "   (and waits)" } else { "" };
            writeln!(f, "> {}{pause}", step.say)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leans(say: &[Message]) -> bool {
        let step = |say: &Message| Step {
            say: say.clone(),
            pause: false,
        };
        leans_on_the_session(&say.iter().map(step).collect::<Vec<_>>())
    }

    #[test]
    fn an_unnamed_statement_may_be_used_up_to_the_next_ready_for_query() {
        let parse = || Message::parse("", "SELECT 1");
        let bind = || Message::bind("p0", "", &[]);
        assert!(!leans(&[parse(), bind(), bind(), Message::sync()]));
        assert!(leans(&[bind()]));
        assert!(leans(&[Message::describe_statement("")]));
        for between in [
            Message::sync(),
            Message::query(""),
            Message::function_call(1, &[]),
        ] {
            assert!(leans(&[parse(), between, bind()]));
        }
    }

    #[test]
    fn a_named_statement_may_be_used_at_any_time() {
        assert!(!leans(&[
            Message::bind("", "s0", &[]),
            Message::describe_portal("")
        ]));
    }
}
