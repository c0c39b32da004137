//! A client's messages: which go on to a server, and which end where they are; and the few that
//! a pooler writes itself.

use crate::frame::{FrameHeader, ProtocolError, Scanner, put, put_str};
use crate::pipeline::{Gate, Pipeline, Sent};
use crate::statements::{self, Named, Reading};

/// What a client may send, as settings and pool mode have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Prepared statements are pooled: their names are the client's own, not the server's.
    pub pools_statements: bool,
    /// Simple queries may pass (`disable_pqexec = 0`).
    pub simple_query: bool,
    /// Longest message, header included, in bytes (`max_packet_size`).
    pub packet_len_max: usize,
}

/// Why a client's message ends its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `disable_pqexec` is on.
    SimpleQuery,
    /// A Parse under a name that the client has given already.
    NameInUse,
    /// A name that the client has not given.
    UnknownName,
    /// There is no telling any more which answer belongs to which request.
    OutOfStep,
    /// No such message type, or not here.
    UnknownMessage,
    /// A header that can't be, or a message that is too long.
    Header(String),
}

/// What to do with the bytes at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send that many bytes to the server, and come back with the rest.
    Forward(usize),
    /// Forget that many bytes, and come back with the rest.
    Drop(usize),
    /// A request starts here: come back with a server's pipeline.
    NeedsServer,
    /// The message at the front names a pooled statement. It is passed over with
    /// [`Intake::took_front`], [`Intake::pass`] or [`Intake::refuse`], if not whole.
    Named(FrameHeader, Named<'a>),
    /// The same, but the names are not here: come back once all of the message is.
    Gather(FrameHeader),
    /// Too little to decide: keep it until more arrives.
    Hold,
    /// The request at the front has to wait for answers of the server's.
    Wait,
    /// The client takes its leave.
    Terminate,
    /// The session ends with this.
    Refuse(Refusal),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Fate {
    #[default]
    Forward,
    Drop,
}

/// Walks a client's stream.
#[derive(Debug, Default)]
pub struct Intake {
    scanner: Scanner,
    fate: Fate,
}

/// What one frame's header tells.
enum Judged<'a> {
    Pass(Fate),
    Stop(Action<'a>),
}

impl Intake {
    /// True between two messages.
    pub fn at_boundary(&self) -> bool {
        self.scanner.at_boundary()
    }

    /// True if a request begins with `bytes` that only a server can answer: then [`Self::next`] would
    /// say the same without a pipeline, with more ado.
    pub fn begins_request(&self, bytes: &[u8], policy: Policy) -> bool {
        let Ok(Some(header)) = FrameHeader::peek(bytes) else {
            return false;
        };
        let is_request = match header.tag {
            b'Q' => policy.simple_query,
            b'P' | b'B' | b'D' | b'E' | b'C' | b'F' | b'S' => true,
            _ => false,
        };
        is_request && self.at_boundary() && header.frame_len() <= policy.packet_len_max
    }

    /// Looks at `bytes`, which are not empty, and tells what to do with their front. Without a
    /// pipeline the client has no server.
    pub fn next<'a>(
        &mut self,
        bytes: &'a [u8],
        mut pipeline: Option<&mut Pipeline>,
        policy: Policy,
    ) -> Action<'a> {
        let mut done = self.scanner.pass(bytes);
        if done > 0 && self.fate == Fate::Drop {
            return Action::Drop(done);
        }
        loop {
            let rest = bytes.get(done..).unwrap_or_default();
            let stop = match FrameHeader::peek(rest) {
                Ok(Some(header))
                    if header.frame_len() <= policy.packet_len_max
                        && statements::is_nameless(header, rest)
                        && let Some(pipeline) = &mut pipeline
                        && pipeline.sends_usual(header.tag) =>
                {
                    done = done.saturating_add(self.scanner.enter(header, rest));
                    continue;
                }
                Ok(Some(header)) => match self.judge(header, rest, &mut pipeline, policy) {
                    Judged::Pass(Fate::Forward) => {
                        done = done.saturating_add(self.scanner.enter(header, rest));
                        continue;
                    }
                    Judged::Pass(Fate::Drop) if done == 0 => {
                        self.fate = Fate::Drop;
                        return Action::Drop(self.scanner.enter(header, rest));
                    }
                    // Come back for it once the bytes before it are gone.
                    Judged::Pass(Fate::Drop) => Action::Hold,
                    Judged::Stop(action) => action,
                },
                Ok(None) => Action::Hold,
                Err(error) => Action::Refuse(Refusal::Header(header_text(error))),
            };
            self.fate = Fate::Forward;
            return if done > 0 {
                Action::Forward(done)
            } else {
                stop
            };
        }
    }

    /// The front of a message was sent under another name: the rest follows as it is.
    pub fn took_front(&mut self, header: FrameHeader, front_len: usize) {
        debug_assert!(self.at_boundary());
        self.fate = Fate::Forward;
        self.scanner
            .owe(header.frame_len().saturating_sub(front_len));
    }

    /// A message, of which the front is in `bytes`, goes on as it is; returns how much of it is
    /// here.
    pub fn pass(&mut self, header: FrameHeader, bytes: &[u8]) -> usize {
        self.fate = Fate::Forward;
        self.scanner.enter(header, bytes)
    }

    /// A message, of which the front is in `bytes`, goes nowhere; returns how much of it is here.
    pub fn refuse(&mut self, header: FrameHeader, bytes: &[u8]) -> usize {
        self.fate = Fate::Drop;
        self.scanner.enter(header, bytes)
    }

    fn judge<'a>(
        &self,
        header: FrameHeader,
        rest: &'a [u8],
        pipeline: &mut Option<&mut Pipeline>,
        policy: Policy,
    ) -> Judged<'a> {
        if header.frame_len() > policy.packet_len_max {
            let shown = header_text(FrameHeader::bad(rest));
            return Judged::Stop(Action::Refuse(Refusal::Header(shown)));
        }
        match header.tag {
            b'Q' if !policy.simple_query => {
                return Judged::Stop(Action::Refuse(Refusal::SimpleQuery));
            }
            b'X' => return Judged::Stop(Action::Terminate),
            b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' | b'S' | b'H' | b'd' | b'c' | b'f' => {}
            _ => return Judged::Stop(Action::Refuse(Refusal::UnknownMessage)),
        }
        let is_request = !matches!(header.tag, b'S' | b'H' | b'd' | b'c' | b'f');
        match pipeline
            .as_ref()
            .map_or(Gate::Open, |pipeline| pipeline.gate())
        {
            Gate::Wait if is_request => return Judged::Stop(Action::Wait),
            Gate::Stuck if is_request => {
                return Judged::Stop(Action::Refuse(Refusal::OutOfStep));
            }
            _ => {}
        }
        if policy.pools_statements
            && matches!(header.tag, b'B' | b'P' | b'D' | b'C')
            && let Some(pipeline) = pipeline
            && let Some(judged) = judge_names(header, rest, pipeline)
        {
            return judged;
        }
        match (pipeline, header.tag) {
            (Some(pipeline), tag) => match pipeline.sent(tag) {
                Sent::Forward => Judged::Pass(Fate::Forward),
                Sent::Drop => Judged::Pass(Fate::Drop),
            },
            (None, b'd' | b'c' | b'f' | b'H') => Judged::Pass(Fate::Drop),
            (None, _) => Judged::Stop(Action::NeedsServer),
        }
    }
}

/// What becomes of a message that may name a pooled statement; `None` if it does not.
fn judge_names<'a>(
    header: FrameHeader,
    rest: &'a [u8],
    pipeline: &mut Pipeline,
) -> Option<Judged<'a>> {
    if !pipeline.takes_requests() {
        return None;
    }
    let stop = match statements::read(header, rest) {
        Reading::Plain => return None,
        Reading::PlainDropsAll => {
            pipeline.beware_of_drops();
            return None;
        }
        Reading::TooShort => return Some(Judged::Stop(Action::Hold)),
        // The server would not look at it.
        _ if pipeline.is_skipping() => return Some(Judged::Pass(Fate::Drop)),
        Reading::Named(named) => Action::Named(header, named),
        Reading::Gather => Action::Gather(header),
    };
    Some(Judged::Stop(stop))
}

fn header_text(error: ProtocolError) -> String {
    match error {
        ProtocolError::Header(hex) => hex,
        other => other.to_string(),
    }
}

/// Appends a simple Query.
pub fn put_query(out: &mut Vec<u8>, sql: &str) {
    put(out, b'Q', |body| put_str(body, sql));
}

/// Appends a query of the extended protocol with text parameters, whose types are the server's to
/// infer, through the unnamed statement and portal, up to its Sync.
pub fn put_query_with(out: &mut Vec<u8>, sql: &str, values: &[&str]) {
    put(out, b'P', |body| {
        put_str(body, "");
        put_str(body, sql);
        body.extend_from_slice(&[0, 0]);
    });
    put(out, b'B', |body| {
        // Portal, statement, and no word on formats: all is text.
        body.extend_from_slice(&[0, 0, 0, 0]);
        let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
        body.extend_from_slice(&count.to_be_bytes());
        for value in values {
            let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
            body.extend_from_slice(&len.to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body.extend_from_slice(&[0, 0]);
    });
    put(out, b'E', |body| {
        put_str(body, "");
        // All rows.
        body.extend_from_slice(&[0; 4]);
    });
    put(out, b'S', |_| {});
}

/// Appends Terminate.
pub fn put_terminate(out: &mut Vec<u8>) {
    put(out, b'X', |_| {});
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::TxStatus;

    const SESSION: Policy = Policy {
        pools_statements: false,
        simple_query: true,
        packet_len_max: 1 << 30,
    };
    const TRANSACTION: Policy = Policy {
        pools_statements: true,
        ..SESSION
    };

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, tag, |b| b.extend_from_slice(body));
        out
    }

    /// Feeds `stream` in two pieces and returns what went on to the server.
    fn forwarded(stream: &[u8], split: usize, pipeline: &mut Pipeline) -> Vec<u8> {
        let mut intake = Intake::default();
        let mut out = Vec::new();
        let mut held = Vec::new();
        for piece in [&stream[..split], &stream[split..]] {
            held.extend_from_slice(piece);
            let mut at = 0;
            while at < held.len() {
                match intake.next(&held[at..], Some(pipeline), TRANSACTION) {
                    Action::Forward(n) => {
                        out.extend_from_slice(&held[at..at + n]);
                        at += n;
                    }
                    Action::Drop(n) => at += n,
                    Action::Hold => break,
                    other => panic!("{other:?}"),
                }
            }
            held.drain(..at);
        }
        assert!(held.is_empty());
        out
    }

    #[test]
    fn a_request_is_seen_at_once_where_it_would_be_seen_with_more_ado() {
        let policies = [
            SESSION,
            Policy {
                simple_query: false,
                packet_len_max: 12,
                ..TRANSACTION
            },
        ];
        for (policy, tag) in policies
            .into_iter()
            .flat_map(|it| (0..=255).map(move |tag| (it, tag)))
        {
            for body_len in [0, 4, 7, 8] {
                let stream = frame(tag, &vec![0; body_len]);
                for len in 1..=stream.len() {
                    let bytes = &stream[..len];
                    for owed in [0, 3] {
                        let mut intake = Intake::default();
                        intake.scanner.owe(owed);
                        let at_once = intake.begins_request(bytes, policy);
                        let with_ado = intake.next(bytes, None, policy);
                        let same = at_once == (with_ado == Action::NeedsServer);
                        assert!(same, "{policy:?} {bytes:?} {owed}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_stream_split_at_any_byte_goes_on_whole() {
        let mut stream = Vec::new();
        put_query(&mut stream, "select 1");
        stream.extend(frame(b'P', b"\0select $1\0\0\0"));
        stream.extend(frame(b'B', b"\0\0\0\0\0\0\0\0"));
        stream.extend(frame(b'E', b"\0\0\0\0\0"));
        stream.extend(frame(b'S', b""));
        for split in 0..=stream.len() {
            let mut pipeline = Pipeline::default();
            assert_eq!(forwarded(&stream, split, &mut pipeline), stream, "{split}");
            assert_eq!(pipeline.outstanding(), 5, "{split}");
        }
    }

    #[test]
    fn the_rest_of_a_failed_copy_is_dropped_at_any_split() {
        let mut stream = frame(b'd', b"1\t2\n");
        stream.extend(frame(b'c', b""));
        for split in 0..=stream.len() {
            let mut pipeline = Pipeline::default();
            assert_eq!(forwarded(&stream, split, &mut pipeline), b"", "{split}");
        }
    }

    #[test]
    fn bytes_before_a_drop_are_forwarded_first() {
        let mut pipeline = Pipeline::default();
        pipeline.sent(b'Q');
        pipeline.received(b'G');
        pipeline.received(b'E');
        let mut stream = frame(b'd', b"x");
        let mut intake = Intake::default();
        // The first piece enters while the COPY still counts, the rest after it ended.
        assert_eq!(
            intake.next(&stream[..5], Some(&mut pipeline), SESSION),
            Action::Forward(5)
        );
        pipeline.ready(TxStatus::Idle);
        stream.extend(frame(b'c', b""));
        assert_eq!(
            intake.next(&stream[5..], Some(&mut pipeline), SESSION),
            Action::Forward(1)
        );
        assert_eq!(
            intake.next(&stream[6..], Some(&mut pipeline), SESSION),
            Action::Drop(5)
        );
    }

    #[test]
    fn another_implementation_writes_the_same_query_with_parameters() {
        use postgres_protocol::IsNull;
        use postgres_protocol::message::frontend;

        let mut ours = Vec::new();
        put_query_with(&mut ours, "select $1, $2", &["one", ""]);
        let mut theirs = Vec::new().as_slice().into();
        frontend::parse("", "select $1, $2", [], &mut theirs).unwrap();
        let bound = frontend::bind(
            "",
            "",
            [],
            ["one", ""],
            |value, out| {
                out.extend_from_slice(value.as_bytes());
                Ok(IsNull::No)
            },
            [],
            &mut theirs,
        );
        assert!(bound.is_ok());
        frontend::execute("", 0, &mut theirs).unwrap();
        frontend::sync(&mut theirs);
        assert_eq!(ours, theirs.to_vec());
    }

    #[test]
    fn without_a_server_only_requests_ask_for_one() {
        let mut intake = Intake::default();
        let query = frame(b'Q', b"select 1\0");
        assert_eq!(intake.next(&query, None, SESSION), Action::NeedsServer);
        assert_eq!(
            intake.next(&frame(b'H', b""), None, SESSION),
            Action::Drop(5)
        );
        assert_eq!(
            intake.next(&frame(b'X', b""), None, SESSION),
            Action::Terminate
        );
        assert_eq!(intake.next(&query[..4], None, SESSION), Action::Hold);
    }

    #[test]
    fn messages_that_name_a_pooled_statement_stop_the_walk() {
        let mut pipeline = Pipeline::default();
        let named = frame(b'P', b"s1\0select 1\0\0\0");
        let mut ask =
            |bytes: &[u8], policy| match Intake::default().next(bytes, Some(&mut pipeline), policy)
            {
                Action::Named(_, Named::Parse { name, .. }) => name.to_vec(),
                other => format!("{other:?}").into_bytes(),
            };
        assert_eq!(ask(&named, TRANSACTION), b"s1");
        assert_eq!(ask(&named, SESSION), b"Forward(19)");
        assert_eq!(ask(&named[..5], TRANSACTION), b"Hold");
        // After an error the server skips it, and then it must not count.
        pipeline.sent(b'E');
        pipeline.failed();
        assert_eq!(
            Intake::default().next(&named, Some(&mut pipeline), TRANSACTION),
            Action::Drop(19)
        );
    }

    #[test]
    fn a_request_behind_a_copy_that_may_have_swallowed_a_sync_waits_or_is_refused() {
        let mut pipeline = Pipeline::default();
        for tag in *b"PBESdc" {
            pipeline.sent(tag);
        }
        let query = frame(b'Q', b"select 1\0");
        let ask = |pipeline: &mut Pipeline| {
            let action = Intake::default().next(&query, Some(pipeline), SESSION);
            format!("{action:?}")
        };
        assert_eq!(ask(&mut pipeline), "Wait");
        for tag in *b"12GE" {
            pipeline.received(tag);
        }
        assert_eq!(ask(&mut pipeline), "Refuse(OutOfStep)");
    }

    #[test]
    fn behind_a_front_sent_under_another_name_the_rest_follows() {
        let bind = frame(b'B', b"\0s1\0\0\0\0\0\0\0");
        let mut stream = bind.clone();
        stream.extend(frame(b'E', b"\0\0\0\0\0"));
        let mut intake = Intake::default();
        let mut pipeline = Pipeline::default();
        let action = intake.next(&stream, Some(&mut pipeline), TRANSACTION);
        let Action::Named(header, Named::Bind { portal, name }) = action else {
            panic!("{action:?}");
        };
        let front = statements::bind_front_len(portal, name);
        intake.took_front(header, front);
        assert_eq!(
            intake.next(&stream[front..], Some(&mut pipeline), TRANSACTION),
            Action::Forward(stream.len() - front)
        );
        assert!(intake.at_boundary());
    }

    #[test]
    fn unknown_overlong_and_broken_messages_are_refused() {
        const POLICY: Policy = Policy {
            packet_len_max: 16,
            simple_query: false,
            ..SESSION
        };
        fn ask(bytes: &[u8]) -> Action<'_> {
            Intake::default().next(bytes, None, POLICY)
        }
        assert_eq!(
            ask(&frame(b'p', b"x\0")),
            Action::Refuse(Refusal::UnknownMessage)
        );
        assert_eq!(
            ask(&frame(b'Q', b"x\0")),
            Action::Refuse(Refusal::SimpleQuery)
        );
        assert_eq!(
            ask(b"Q\0\0\x01\0"),
            Action::Refuse(Refusal::Header("5100000100".into()))
        );
        assert_eq!(
            ask(b"Q\0\0\0\x01"),
            Action::Refuse(Refusal::Header("5100000001".into()))
        );
    }
}
