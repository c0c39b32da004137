//! What the two processes of a take-over tell each other about clients and servers: frames, written
//! and read. No frame is believed to be what it should be.
//!
//! ```text
//! length (4)  kind (1)  fields: numbers in network order, texts and lists behind their length
//! ```

use zeroize::Zeroizing;

/// The version of all this.
pub(crate) const VERSION: u32 = 1;

/// Longest frame, without its length. Whoever has more to tell of a client keeps it.
pub(super) const FRAME_MAX: usize = 16 << 20;

/// Bytes of a frame's length.
const LEN: usize = 4;

/// Values that a frame is made of.
trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    /// Takes one off the front; `None` if it is not there.
    fn take(from: &mut &[u8]) -> Option<Self>;
}

/// Bytes; wiped when dropped, since some are secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Bytes(pub(super) Zeroizing<Vec<u8>>);

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

/// Names and values.
pub(super) type Values = Vec<(String, String)>;

/// A frame, or a part of one: its fields one after the other.
macro_rules! record {
    ($(#[$about:meta])* $name:ident { $($field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Eq)]
        pub(super) struct $name { $(pub(super) $field: $kind,)* }

        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Field::take(from)?,)* })
            }
        }
    };
}

/// All kinds of frames: each with the number of its kind, and what is in it.
macro_rules! frames {
    ($($(#[$about:meta])* $number:literal $name:ident($kind:ty),)*) => {
        /// One thing that one process tells the other.
        #[derive(Clone, PartialEq, Eq)]
        pub(super) enum Frame { $($(#[$about])* $name($kind),)* }

        impl Frame {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(it) => { out.push($number); it.put(out); })*
                }
            }

            fn take(kind: u8, from: &mut &[u8]) -> Option<Self> {
                match kind {
                    $($number => Some(Self::$name(Field::take(from)?)),)*
                    _ => None,
                }
            }
        }
    };
}

frames! {
    /// To the heir: a pool, before anything is told of it.
    1 Pool(PoolRecord),
    /// To the heir: logged-in clients.
    2 Guests(GuestsRecord),
    /// To the heir: that was all there is.
    3 Census(RestRecord),
    /// To the heir, with its socket: a client that is idle, or waits for a server. One that keeps its
    /// server has that with it, and its socket.
    4 Client(ClientRecord),
    /// To the heir, with its socket: a server that is idle.
    5 Server(ServerRecord),
    /// To the heir: a client has left.
    6 Left(Place),
    /// To the heir: a server has closed.
    7 Closed(Place),
    /// To the heir: a client waits for a server of this pool.
    8 Wanted(Place),
    /// To the heir: may this client be let in? It is answered.
    9 Enter(EnterRecord),
    /// To the elder: about a client that came with this number.
    16 Answer(AnswerRecord),
    /// To the elder: a server of this pool may be opened.
    17 Grant(Place),
    /// To the elder: a client waits, and what is in its way may be idle there.
    18 Needed(NeedRecord),
}

record! {
    /// A database and a user.
    Place {
        database: String,
        user: String,
    }
}

record! {
    /// A pool, and how many servers of it are open.
    PoolRecord {
        place: Place,
        servers: u32,
        // Where its servers come from, in words that are compared only.
        origin: String,
        typed: Option<Bytes>,
        queried: Option<Bytes>,
        scram_keys: Option<(Bytes, Bytes)>,
        reported: Option<(Values, Values)>,
    }
}

record! {
    /// So many clients.
    GuestsRecord {
        place: Place,
        count: u32,
    }
}

record! {
    /// What rests: PAUSE of all databases and of single ones, DISABLE.
    RestRecord {
        paused: bool,
        paused_databases: Vec<String>,
        disabled_databases: Vec<String>,
    }
}

record! {
    /// A client. Times are microseconds: ago, or since 1970.
    ClientRecord {
        id: u64,
        user: String,
        place: Place,
        key: Bytes,
        connect_time: u64,
        age: u64,
        silent_for: u64,
        params: Values,
        statements: Vec<(Bytes, StatementRecord)>,
        held: Bytes,
        server: Option<ServerRecord>,
    }
}

record! {
    /// A prepared statement.
    StatementRecord {
        id: u64,
        shape: u64,
        superseded: bool,
        definition: Bytes,
    }
}

record! {
    /// A server.
    ServerRecord {
        place: Place,
        origin: String,
        id: u64,
        target: TargetRecord,
        key: Option<Bytes>,
        connect_time: u64,
        age: u64,
        unused_for: u64,
        touched: bool,
        defaults: Values,
        params: Values,
        statements: Vec<StatementRecord>,
    }
}

record! {
    /// Where a server is: an address and the name it was found by, or a path.
    TargetRecord {
        address: Option<String>,
        name: Option<String>,
        path: Bytes,
    }
}

record! {
    /// A client that logs in where it can't be counted.
    EnterRecord {
        number: u64,
        place: Place,
    }
}

record! {
    /// Yes or no.
    AnswerRecord {
        number: u64,
        yes: bool,
    }
}

record! {
    /// What is in the way: 0 the pool's limit, 1 the database's, 2 the user's.
    NeedRecord {
        scope: u8,
        place: Place,
    }
}

impl Frame {
    /// The frame as it is sent; `None` if it is too long.
    pub(super) fn encode(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(vec![0; LEN]);
        self.put(&mut out);
        let len = out.len().checked_sub(LEN).filter(|len| *len <= FRAME_MAX)?;
        let front = out.first_chunk_mut::<LEN>()?;
        *front = u32::try_from(len).ok()?.to_be_bytes();
        Some(out)
    }

    /// How many sockets come with it.
    pub(super) fn sockets(&self) -> usize {
        match self {
            Self::Client(client) => 1 + usize::from(client.server.is_some()),
            Self::Server(_) => 1,
            _ => 0,
        }
    }

    /// Reads a frame at the front of `bytes`, and tells how long it is; `None` asks for more.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((front, rest)) = bytes.split_first_chunk::<LEN>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*front) as usize;
        if len == 0 || len > FRAME_MAX {
            return Err(Malformed);
        }
        let Some(mut body) = rest.get(..len) else {
            return Ok(None);
        };
        let kind = u8::take(&mut body).ok_or(Malformed)?;
        let frame = Self::take(kind, &mut body).ok_or(Malformed)?;
        match body {
            [] => Ok(Some((frame, LEN + len))),
            _ => Err(Malformed),
        }
    }
}

/// What was read is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame that can't be read")]
pub(super) struct Malformed;

macro_rules! numbers {
    ($($kind:ty)*) => {$(
        impl Field for $kind {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn take(from: &mut &[u8]) -> Option<Self> {
                let (front, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_be_bytes(*front))
            }
        }
    )*};
}
numbers!(u8 u32 u64);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// A length that can't be told is too long for any frame.
fn put_len(len: usize, out: &mut Vec<u8>) {
    u32::try_from(len).unwrap_or(u32::MAX).put(out);
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::take(from)? as usize;
    let (front, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(front)
}

impl Field for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_len(self.0.len(), out);
        out.extend_from_slice(&self.0);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        take_bytes(from).map(Self::from)
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_len(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(take_bytes(from)?.to_vec()).ok()
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(it) = self {
            it.put(out);
        }
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        match bool::take(from)? {
            true => Some(Some(T::take(from)?)),
            false => Some(None),
        }
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Some((A::take(from)?, B::take(from)?))
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_len(self.len(), out);
        self.iter().for_each(|it| it.put(out));
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let count = u32::take(from)?;
        // Room is made as they come: the count may promise anything.
        (0..count).map(|_| T::take(from)).collect()
    }
}

#[cfg(test)]
mod tests;
