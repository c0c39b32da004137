//! What must hold for any bytes. The fuzzer calls these, and so does a test of `wire` with the
//! corpora that it left.

use wire::TxStatus;
use wire::backend::{self, Outflow};
use wire::frame::{FrameHeader, Scanner, whole};
use wire::frontend::{self, Intake, Policy};
use wire::pipeline::{About, Pipeline};
use wire::startup::{FirstPacket, peek_len};
use wire::statements::{Named, bind_front_len, put_bind_front};

/// A stream's frames end in the same places, however it is cut.
pub fn scanner(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else {
        return;
    };
    let mut expected = Vec::new();
    let (mut rest, mut at) = (stream, 0);
    while let Ok(Some((header, body, tail))) = whole(rest) {
        assert_eq!(header.body_len, body.len());
        at += header.frame_len();
        expected.push(at);
        rest = tail;
    }

    let mut scanner = Scanner::default();
    let (mut ends, mut done, mut held) = (Vec::new(), 0, Vec::new());
    for chunk in stream.chunks(usize::from(piece).max(1)) {
        held.extend_from_slice(chunk);
        let mut used = scanner.pass(&held);
        loop {
            let left = &held[used..];
            if used > 0 && scanner.at_boundary() && ends.last() != Some(&(done + used)) {
                ends.push(done + used);
            }
            match FrameHeader::peek(left) {
                Ok(Some(header)) if scanner.at_boundary() => used += scanner.enter(header, left),
                _ => break,
            }
        }
        done += used;
        held.drain(..used);
    }
    expected.truncate(ends.len());
    assert_eq!(ends, expected);
}

/// A first packet is read or refused, and what is read holds together.
pub fn startup(data: &[u8]) {
    let Ok(Some(len)) = peek_len(data) else {
        return;
    };
    let Some(packet) = data.get(..len) else {
        return;
    };
    let Ok(FirstPacket::Startup(startup)) = FirstPacket::parse(packet) else {
        return;
    };
    assert!(!startup.user().is_empty() && !startup.database().is_empty());
    for (name, _) in startup.params() {
        assert!(startup.get(name).is_some());
    }
    assert!(startup.extensions().count() <= startup.params().count());
    if let Some(options) = startup.get("options") {
        let _ = wire::startup::parse_options(options);
    }
}

/// How a client's stream is met: with or without a server, its statements pooled or not.
fn policy(bits: u8) -> Policy {
    Policy {
        pools_statements: bits & 1 != 0,
        simple_query: bits & 2 == 0,
        packet_len_max: if bits & 4 == 0 { 1 << 30 } else { 64 },
    }
}

/// What a client's stream comes to: bytes sent on, and how it stopped.
#[derive(Debug, Default, PartialEq)]
struct Sent {
    bytes: Vec<u8>,
    stop: Option<String>,
    outstanding: usize,
    held: Vec<u8>,
}

fn client_says(stream: &[u8], piece: usize, policy: Policy) -> Sent {
    let mut intake = Intake::default();
    let mut pipeline = Pipeline::default();
    let mut sent = Sent::default();
    for chunk in stream.chunks(piece) {
        sent.held.extend_from_slice(chunk);
        let held = std::mem::take(&mut sent.held);
        let mut rest = &held[..];
        while !rest.is_empty() {
            match intake.next(rest, Some(&mut pipeline), policy) {
                frontend::Action::Forward(count) => {
                    assert!(count > 0 && count <= rest.len());
                    sent.bytes.extend_from_slice(&rest[..count]);
                    rest = &rest[count..];
                }
                frontend::Action::Drop(count) => {
                    assert!(count > 0 && count <= rest.len());
                    rest = &rest[count..];
                }
                frontend::Action::Named(header, named) => {
                    rest = rename(header, named, rest, &mut intake, &mut sent.bytes);
                    let about = match named {
                        Named::Parse { .. } => About::Parse,
                        Named::Bind { .. } => About::Bind,
                        Named::Describe { .. } => About::Describe,
                        Named::Close { .. } => About::OwnClose,
                    };
                    let ticket = pipeline.ticket();
                    pipeline.sent_about(about, ticket);
                }
                frontend::Action::Gather(header) => {
                    assert!(rest.len() < header.frame_len());
                    break;
                }
                frontend::Action::Hold => break,
                other => {
                    sent.stop = Some(format!("{other:?}"));
                    sent.outstanding = pipeline.outstanding();
                    return sent;
                }
            }
        }
        sent.held = rest.to_vec();
    }
    sent.outstanding = pipeline.outstanding();
    sent
}

/// Sends a message under another statement name.
fn rename<'a>(
    header: FrameHeader,
    named: Named<'_>,
    rest: &'a [u8],
    intake: &mut Intake,
    out: &mut Vec<u8>,
) -> &'a [u8] {
    match named {
        Named::Bind { portal, name } => {
            let front = bind_front_len(portal, name);
            put_bind_front(out, header, (portal, name), b"PGBOUNCER_1");
            intake.took_front(header, front);
            &rest[front..]
        }
        _ => {
            let (frame, rest) = rest.split_at(header.frame_len());
            out.extend_from_slice(frame);
            rest
        }
    }
}

/// A client's stream goes on in the same way, however it is cut.
pub fn frontend(data: &[u8]) {
    let Some((&[bits, piece], stream)) = data.split_first_chunk() else {
        return;
    };
    let policy = policy(bits);
    let whole = client_says(stream, stream.len().max(1), policy);
    let pieces = client_says(stream, usize::from(piece).max(1), policy);
    // A message of which only the front came may have been sent as far as it is here.
    assert_eq!(whole, pieces);
}

fn server_says(stream: &[u8], piece: usize, asked: u8) -> (Vec<u8>, Pipeline, bool) {
    let mut outflow = Outflow::default();
    let mut pipeline = Pipeline::default();
    ask(&mut pipeline, asked);
    let (mut out, mut held) = (Vec::new(), Vec::new());
    for chunk in stream.chunks(piece) {
        held.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            if outflow.at_boundary() {
                while let Some(fake) = pipeline.take_fake() {
                    backend::put_fake(&mut out, fake);
                }
            }
            if at == held.len() {
                break;
            }
            let rest = &held[at..];
            let count = match outflow.next(rest, &mut pipeline) {
                Ok(backend::Action::Drop(count)) => {
                    at += count;
                    continue;
                }
                Ok(
                    backend::Action::Forward(count)
                    | backend::Action::Parameter(count, _)
                    | backend::Action::Unread(count)
                    | backend::Action::DroppedAll(count)
                    | backend::Action::Described { len: count, .. }
                    | backend::Action::Failed { len: count, .. },
                ) => count,
                Ok(backend::Action::Hold) => break,
                Err(_) => return (out, pipeline, false),
            };
            assert!(count > 0 && count <= rest.len());
            out.extend_from_slice(&rest[..count]);
            at += count;
        }
        held.drain(..at);
    }
    (out, pipeline, true)
}

/// Requests of all kinds, for a server to answer.
fn ask(pipeline: &mut Pipeline, asked: u8) {
    let requests: &[&[u8]] = &[
        b"Q", b"PBDES", b"pbES", b"obESPc", b"QdcfQ", b"PBESdcS", b"FS",
    ];
    let place = usize::from(asked) % requests.len();
    for request in requests[place] {
        step(pipeline, *request);
    }
}

/// A server's stream reaches the client in the same way, however it is cut.
pub fn backend(data: &[u8]) {
    let Some((&[asked, piece], stream)) = data.split_first_chunk() else {
        return;
    };
    let (whole, one, fine) = server_says(stream, stream.len().max(1), asked);
    let (pieces, other, also_fine) = server_says(stream, usize::from(piece).max(1), asked);
    // Where the stream breaks off, the part before it may have gone on already.
    if fine && also_fine {
        assert_eq!(whole, pieces);
        assert_eq!(one.outstanding(), other.outstanding());
        assert_eq!(one.is_settled(), other.is_settled());
        assert_eq!(one.status(), other.status());
    }
}

/// One step of a conversation: a message's tag, or a letter for what the pooler adds.
fn step(pipeline: &mut Pipeline, letter: u8) {
    let about = match letter {
        b'p' => About::Parse,
        b'o' => About::OwnParse,
        b'x' => About::OwnClose,
        b'y' => About::FakeParse,
        b'z' => About::FakeClose,
        b'b' => About::Bind,
        b't' => About::Describe,
        b'e' => About::OwnDescribe,
        b'r' => About::Refused,
        tag => {
            pipeline.sent(tag);
            return;
        }
    };
    if pipeline.takes_requests() && !pipeline.is_skipping() {
        let mark = pipeline.ticket();
        pipeline.sent_about(about, mark);
    }
}

/// A ledger that says it is settled owes nothing, whatever both sides said.
pub fn pipeline(data: &[u8]) {
    let mut pipeline = Pipeline::default();
    let (mut lost, mut settled_ticket) = (false, 0);
    for pair in data.chunks_exact(2) {
        let &[side, letter] = pair else {
            return;
        };
        match side % 4 {
            0 | 1 => step(&mut pipeline, letter),
            2 if letter == b'E' => {
                pipeline.failed();
            }
            2 if pipeline.swallows(letter) => pipeline.swallowed(letter),
            2 => pipeline.received(letter),
            _ => {
                let status = [TxStatus::Idle, TxStatus::Open, TxStatus::Failed];
                if pipeline.swallows(b'Z') {
                    pipeline.swallowed(b'Z');
                } else {
                    pipeline.ready(status[usize::from(letter) % 3]);
                }
            }
        }
        while pipeline.take_fake().is_some() {}
        if pipeline.wants_probe() {
            pipeline.probe_sent();
        }
        assert!(pipeline.take_undone().is_sorted());
        // What is lost stays lost, and what is settled stays settled.
        assert!(pipeline.is_lost() || !lost);
        lost = pipeline.is_lost();
        while settled_ticket < u64::MAX && pipeline.has_settled(settled_ticket + 1) {
            settled_ticket += 1;
        }
        assert!(pipeline.has_settled(settled_ticket));
        if pipeline.is_settled() {
            assert_eq!(pipeline.outstanding(), 0);
            assert!(!pipeline.may_be_dropping() && !pipeline.is_in_doubt());
        }
    }
}
