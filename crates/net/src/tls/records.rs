//! What a TLS connection keeps between two reads and two writes; knows of no socket.
//!
//! The library decrypts in buffers that the reader lends, so an idle connection holds little more
//! than its keys: at most the front of a record (`partial`), text that found no room (`plain`), and
//! records that the socket does not take yet (`sealed`).

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error};

/// Most text in one record.
pub(super) const TEXT_MAX: usize = 16 * 1024;

/// What a record adds to its text, and then some.
const RECORD_OVERHEAD: usize = 64;

/// An emptied buffer larger than this is given back.
const KEEP_CAPACITY: usize = 256;

/// The library's half of a connection.
pub(super) enum Session {
    /// With a client of ours.
    Client(UnbufferedServerConnection),
    /// With a server of ours.
    Server(UnbufferedClientConnection),
}

/// A connection's records.
pub(super) struct Records {
    session: Session,
    /// The front of a record, or of a message in several: the next read goes behind it.
    partial: Vec<u8>,
    /// Text that its reader had no room for, and how much of it was read since.
    plain: Vec<u8>,
    read: usize,
    /// Records to be sent, and how much of them was.
    sealed: Vec<u8>,
    sent: usize,
    state: State,
}

/// What may still be heard and said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The other side will say no more.
    Ended,
    /// The two do not understand each other; the library must not be asked any more.
    Broken,
}

/// What the library is asked for in one step.
enum Say<'a> {
    /// Only to take in what arrived.
    Nothing,
    /// To encrypt this.
    Text(&'a [u8]),
    /// To say that we shall say no more.
    Farewell,
}

/// How a step went.
enum Step {
    /// There is more to do.
    More,
    /// Nothing is left to do until more arrives; what was to be said is sealed if the handshake is
    /// over.
    Rest,
    /// The other side has said its farewell.
    Ended,
}

impl Records {
    /// Begins with what has arrived already.
    pub(super) fn new(session: Session, arrived: Vec<u8>) -> Self {
        Self {
            session,
            partial: arrived,
            plain: Vec::new(),
            read: 0,
            sealed: Vec::new(),
            sent: 0,
            state: State::Open,
        }
    }

    /// What was agreed on.
    pub(super) fn agreed(&self) -> &CommonState {
        match &self.session {
            Session::Client(session) => session,
            Session::Server(session) => session,
        }
    }

    /// Bytes that stand in front of what is read next.
    pub(super) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Bytes of memory that it keeps, besides the library's.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.partial.capacity() + self.plain.capacity() + self.sealed.capacity()
    }

    /// Bytes to be sent.
    pub(super) fn sealed(&self) -> &[u8] {
        &self.sealed[self.sent..]
    }

    /// So many of them were sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.sealed.len() {
            self.sent = 0;
            empty(&mut self.sealed);
        }
    }

    /// The socket is at its end.
    pub(super) fn end(&mut self) {
        if self.state == State::Open {
            self.state = State::Ended;
        }
    }

    /// True if nothing more will arrive.
    pub(super) fn is_ended(&self) -> bool {
        self.state != State::Open
    }

    /// True if text waits to be read.
    pub(super) fn has_text(&self) -> bool {
        self.read < self.plain.len()
    }

    /// Reads text that was kept: `None` if there is none, and 0 at the end.
    pub(super) fn read(&mut self, room: &mut [u8]) -> Option<usize> {
        if !self.has_text() {
            return self.is_ended().then_some(0);
        }
        let rest = &self.plain[self.read..];
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        if self.read == self.plain.len() {
            self.read = 0;
            empty(&mut self.plain);
        }
        Some(count)
    }

    /// Takes in `buffer[gap..]`, which is what was `partial` and what arrived behind it. As much
    /// text as there is room for is written to the front of the buffer, over the gap and what was
    /// taken in; returns how much. With no gap all text is kept.
    pub(super) fn take_in(&mut self, buffer: &mut [u8], gap: usize) -> Result<usize, Error> {
        if self.is_ended() {
            return Ok(0);
        }
        let (mut at, mut filled) = (gap, 0);
        let result = loop {
            let (front, incoming) = buffer.split_at_mut(at);
            let plain = &mut self.plain;
            let mut hear = |text: &[u8]| {
                // A record is longer than its text, so it never overtakes the reader.
                let room = front.get_mut(filled..filled + text.len());
                match room.filter(|_| gap > 0 && plain.is_empty()) {
                    Some(room) => {
                        room.copy_from_slice(text);
                        filled += text.len();
                    }
                    None => plain.extend_from_slice(text),
                }
            };
            let session = &mut self.session;
            let (used, step) = session.step(incoming, Say::Nothing, &mut self.sealed, &mut hear);
            at += used;
            match step {
                Ok(Step::More) => {}
                Ok(Step::Rest) => break Ok(filled),
                Ok(Step::Ended) => {
                    self.state = State::Ended;
                    break Ok(filled);
                }
                Err(error) => {
                    self.state = State::Broken;
                    // The alert that tells the other side: whether it arrives changes nothing here.
                    let rest = &mut buffer[at..];
                    let _ = session.step(rest, Say::Nothing, &mut self.sealed, &mut |_| {});
                    break Err(error);
                }
            }
        };
        empty(&mut self.partial);
        self.partial.extend_from_slice(&buffer[at..]);
        result
    }

    /// Takes in what was `partial`, and has the library say what it can.
    pub(super) fn advance(&mut self) -> Result<(), Error> {
        let mut partial = std::mem::take(&mut self.partial);
        self.take_in(&mut partial, 0).map(drop)
    }

    /// Encrypts text, to be sent.
    pub(super) fn seal(&mut self, text: &[u8]) -> Result<(), Error> {
        self.say(|| Say::Text(text))
    }

    /// Says that we shall say no more.
    pub(super) fn seal_farewell(&mut self) -> Result<(), Error> {
        self.say(|| Say::Farewell)
    }

    fn say<'a>(&mut self, words: impl Fn() -> Say<'a>) -> Result<(), Error> {
        if self.agreed().is_handshaking() || self.state == State::Broken {
            return Err(Error::HandshakeNotComplete);
        }
        loop {
            let plain = &mut self.plain;
            let mut hear = |text: &[u8]| plain.extend_from_slice(text);
            let (session, sealed) = (&mut self.session, &mut self.sealed);
            let (used, step) = session.step(&mut self.partial, words(), sealed, &mut hear);
            self.partial.drain(..used);
            match step? {
                Step::More => {}
                Step::Rest => return Ok(()),
                Step::Ended => self.state = State::Ended,
            }
        }
    }
}

impl Session {
    fn step(
        &mut self,
        incoming: &mut [u8],
        say: Say<'_>,
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(&[u8]),
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Client(session) => act(session.process_tls_records(incoming), say, out, hear),
            Self::Server(session) => act(session.process_tls_records(incoming), say, out, hear),
        }
    }
}

/// Does what the library asks for; returns how much of what arrived is used up.
fn act<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    say: Say<'_>,
    out: &mut Vec<u8>,
    hear: &mut impl FnMut(&[u8]),
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Step::More),
                Some(Err(error)) => break Err(error),
                Some(Ok(record)) => {
                    hear(record.payload);
                    discard += record.discard;
                }
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let encode = |room: &mut [u8]| match data.encode(room) {
                Ok(count) => Ok(Put::Done(count)),
                Err(EncodeError::InsufficientSize(size)) => Ok(Put::Needs(size.required_size)),
                Err(EncodeError::AlreadyEncoded) => Ok(Put::Done(0)),
            };
            put(out, RECORD_OVERHEAD, encode).map(|()| Step::More)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It stands in `out`, and whoever has that sends it.
            data.done();
            Ok(Step::More)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match say {
            Say::Nothing => Ok(Step::Rest),
            Say::Text(text) => {
                let records = text.len() / TEXT_MAX + 1;
                let sealed_len = text.len() + records * RECORD_OVERHEAD;
                let encrypt = |room: &mut [u8]| sealed(traffic.encrypt(text, room));
                put(out, sealed_len, encrypt).map(|()| Step::Rest)
            }
            Say::Farewell => {
                let encrypt = |room: &mut [u8]| sealed(traffic.queue_close_notify(room));
                put(out, RECORD_OVERHEAD, encrypt).map(|()| Step::Rest)
            }
        },
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Step::Rest),
        Ok(ConnectionState::PeerClosed) => Ok(Step::Ended),
        // Early data, which we never offer.
        Ok(_) => Err(Error::General("unexpected TLS state".to_owned())),
    };
    (discard, step)
}

/// What became of an attempt to write into a room.
enum Put {
    /// So many bytes were written.
    Done(usize),
    /// The room must be so large.
    Needs(usize),
}

fn sealed(result: Result<usize, EncryptError>) -> Result<Put, Error> {
    match result {
        Ok(count) => Ok(Put::Done(count)),
        Err(EncryptError::InsufficientSize(size)) => Ok(Put::Needs(size.required_size)),
        Err(EncryptError::EncryptExhausted) => Err(Error::EncryptError),
    }
}

/// Appends what `write` writes, which wants about `room` bytes.
fn put(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<Put, Error>,
) -> Result<(), Error> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(Put::Done(count)) => {
                out.truncate(start + count);
                return Ok(());
            }
            Ok(Put::Needs(size)) if size > room => room = size,
            Ok(Put::Needs(_)) => {
                out.truncate(start);
                return Err(Error::EncryptError);
            }
            Err(error) => {
                out.truncate(start);
                return Err(error);
            }
        }
    }
}

fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP_CAPACITY {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records(…)")
    }
}
