//! The first packet of a connection: startup, cancel, or a request for encryption.

use thiserror::Error;

use crate::cancel::{CANCEL_REQUEST, CancelKey};
use crate::frame::{put_str, put_untagged, take_str};

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
/// The newest minor version of protocol 3 that is spoken here. 3.2 differs from 3.0 in longer
/// cancel keys; 3.1 was never made, and who asks for it is served as by 3.0.
pub const NEWEST_MINOR: u16 = 2;
/// Longest startup packet that PostgreSQL takes, in bytes.
pub const STARTUP_LEN_MAX: usize = 10_000;

/// What a new connection asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// TLS, please.
    Ssl,
    /// GSSAPI encryption, please.
    GssEnc,
    /// Stop the query of the session that has this key.
    Cancel(CancelKey),
    /// A session.
    Startup(Startup),
}

/// Why a first packet is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartupError {
    /// Lengths that can't be.
    #[error("bad packet header: '{0}'")]
    Header(String),
    /// Protocol version 2.
    #[error("old V2 protocol not supported")]
    Version2,
    /// Neither 3.x nor a known request.
    #[error("unsupported protocol version: {major}.{minor}")]
    Version {
        /// The asked-for major version.
        major: u16,
        /// The asked-for minor version.
        minor: u16,
    },
    /// The list of parameters has no end, or goes on behind it.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// No `user`.
    #[error("no username supplied")]
    NoUser,
    /// `replication` is neither `database` nor a boolean.
    #[error("invalid value for parameter \"replication\": \"{0}\"")]
    Replication(String),
}

/// What kind of replication connection a startup packet asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replication {
    /// An ordinary one.
    #[default]
    None,
    /// `replication=database`.
    Logical,
    /// `replication=true`.
    Physical,
}

/// A StartupMessage: version and parameters, in the order sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    minor: u16,
    /// All names and values, one behind the other.
    text: String,
    places: Vec<Place>,
}

/// Where a parameter stands in the text: its value is behind its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    name: usize,
    value: usize,
    end: usize,
}

/// As many parameters as nearly all packets have at most.
const USUAL_PARAMS: usize = 6;

/// Reads the length of an untagged packet; `None` asks for more bytes.
pub fn peek_len(bytes: &[u8]) -> Result<Option<usize>, StartupError> {
    let Some((&prefix, _)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(prefix) as usize;
    if (8..=STARTUP_LEN_MAX).contains(&len) {
        Ok(Some(len))
    } else {
        let hex = bytes.iter().take(8).map(|byte| format!("{byte:02x}"));
        Err(StartupError::Header(hex.collect()))
    }
}

impl FirstPacket {
    /// Reads a whole packet, whose length `peek_len` gave.
    pub fn parse(packet: &[u8]) -> Result<Self, StartupError> {
        let Some((&[_, _, _, _, a, b, c, d], body)) = packet.split_first_chunk::<8>() else {
            return Err(StartupError::Layout);
        };
        match u32::from_be_bytes([a, b, c, d]) {
            SSL_REQUEST => Ok(Self::Ssl),
            GSSENC_REQUEST => Ok(Self::GssEnc),
            CANCEL_REQUEST => CancelKey::parse(body)
                .map(Self::Cancel)
                .ok_or(StartupError::Layout),
            _ => Startup::parse(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), body)
                .map(Self::Startup),
        }
    }
}

impl Startup {
    fn parse(major: u16, minor: u16, body: &[u8]) -> Result<Self, StartupError> {
        match major {
            2 => return Err(StartupError::Version2),
            3 => {}
            _ => return Err(StartupError::Version { major, minor }),
        }
        let mut startup = Self::with_room(minor, body.len());
        let mut rest = body;
        while rest != [0] {
            let (name, tail) = take_str(rest).ok_or(StartupError::Layout)?;
            let (value, tail) = take_str(tail).ok_or(StartupError::Layout)?;
            if name.is_empty() {
                return Err(StartupError::Layout);
            }
            startup.push(
                &String::from_utf8_lossy(name),
                &String::from_utf8_lossy(value),
            );
            rest = tail;
        }
        match startup.get("user") {
            Some(user) if !user.is_empty() => Ok(startup),
            _ => Err(StartupError::NoUser),
        }
    }

    /// A packet of this minor version of protocol 3 with these parameters.
    pub fn new<'a>(minor: u16, params: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut startup = Self::with_room(minor, 0);
        for (name, value) in params {
            startup.push(name, value);
        }
        startup
    }

    fn with_room(minor: u16, text_len: usize) -> Self {
        Self {
            minor,
            text: String::with_capacity(text_len),
            places: Vec::with_capacity(USUAL_PARAMS),
        }
    }

    fn push(&mut self, name: &str, value: &str) {
        let start = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        self.text.push_str(value);
        self.places.push(Place {
            name: start,
            value: middle,
            end: self.text.len(),
        });
    }

    /// All parameters, names and values, in the order sent.
    pub fn params(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        let text = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        let places = self.places.iter();
        places.map(move |at| (text(at.name, at.value), text(at.value, at.end)))
    }

    /// The minor version of protocol 3 that is spoken with this client.
    pub fn spoken_minor(&self) -> u16 {
        self.minor.min(NEWEST_MINOR)
    }

    /// True if the client must be told what it does not get.
    pub fn asks_for_too_much(&self) -> bool {
        self.minor > NEWEST_MINOR || self.extensions().next().is_some()
    }

    /// The last value given for a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.params().rfind(|&(key, _)| key == name);
        found.map(|(_, value)| value)
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        self.get("user").unwrap_or_default()
    }

    /// The database's name; by default the user's.
    pub fn database(&self) -> &str {
        match self.get("database") {
            Some(name) if !name.is_empty() => name,
            _ => self.user(),
        }
    }

    /// The kind of replication asked for: `database`, or a boolean as PostgreSQL reads them.
    pub fn replication(&self) -> Result<Replication, StartupError> {
        let value = self.get("replication").unwrap_or_default();
        if value == "database" {
            return Ok(Replication::Logical);
        }
        let word = value.to_ascii_lowercase();
        let begins = |whole: &str| whole.starts_with(&word);
        match word.as_str() {
            "" | "0" | "of" | "off" => Ok(Replication::None),
            "1" | "on" => Ok(Replication::Physical),
            "o" => Err(StartupError::Replication(value.to_owned())),
            _ if begins("false") || begins("no") => Ok(Replication::None),
            _ if begins("true") || begins("yes") => Ok(Replication::Physical),
            _ => Err(StartupError::Replication(value.to_owned())),
        }
    }

    /// Protocol extensions asked for: parameters whose names begin with `_pq_.`.
    pub fn extensions(&self) -> impl Iterator<Item = &str> {
        let names = self.params().map(|(name, _)| name);
        names.filter(|name| name.starts_with("_pq_."))
    }
}

/// The packet that asks a server for TLS.
pub fn ssl_request() -> [u8; 8] {
    let [a, b, c, d] = SSL_REQUEST.to_be_bytes();
    [0, 0, 0, 8, a, b, c, d]
}

/// Appends a StartupMessage of this minor version of protocol 3.
pub fn put_startup<'a>(
    out: &mut Vec<u8>,
    minor: u16,
    params: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    put_untagged(out, |body| {
        body.extend_from_slice(&[0, 3]);
        body.extend_from_slice(&minor.to_be_bytes());
        for (name, value) in params {
            put_str(body, name);
            put_str(body, value);
        }
        body.push(0);
    });
}

/// Why the `options` startup parameter is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
)]
pub struct OptionsError;

/// Splits `options` into settings: `-c name=value`, `-cname=value`, `--name=value`, where a
/// backslash keeps the next character from ending a word. Dashes in `some-name` become
/// underscores, as in PostgreSQL.
pub fn parse_options(options: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut words = split_words(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or(OptionsError)?
        } else if let Some(setting) = word.strip_prefix("-c").or(word.strip_prefix("--")) {
            setting.to_owned()
        } else {
            return Err(OptionsError);
        };
        let (name, value) = setting.split_once('=').ok_or(OptionsError)?;
        if name.is_empty() {
            return Err(OptionsError);
        }
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(params: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        put_startup(&mut out, 2, params.iter().copied());
        out
    }

    #[test]
    fn a_startup_reads_back_and_the_database_defaults_to_the_user() {
        let bytes = packet(&[("user", "alice"), ("application_name", "psql")]);
        assert_eq!(peek_len(&bytes), Ok(Some(bytes.len())));
        let Ok(FirstPacket::Startup(startup)) = FirstPacket::parse(&bytes) else {
            panic!("not a startup");
        };
        assert_eq!(startup.minor, 2);
        assert_eq!((startup.user(), startup.database()), ("alice", "alice"));
        assert_eq!(startup.get("application_name"), Some("psql"));
    }

    #[test]
    fn replication_is_asked_for_as_postgresql_reads_it() {
        let asked = |value: &str| Startup::new(0, [("replication", value)]).replication();
        let none = ["", "false", "f", "No", "off", "of", "0"];
        let physical = ["true", "TRUE", "t", "yes", "y", "on", "1"];
        assert!(none.iter().all(|v| asked(v) == Ok(Replication::None)));
        assert!(
            physical
                .iter()
                .all(|v| asked(v) == Ok(Replication::Physical))
        );
        assert_eq!(asked("database"), Ok(Replication::Logical));
        for bad in ["Database", "o", "2", "yess", "maybe"] {
            let refused = StartupError::Replication(bad.to_owned());
            assert_eq!(asked(bad), Err(refused), "{bad}");
        }
    }

    #[test]
    fn a_startup_without_end_or_user_is_refused() {
        let mut bytes = packet(&[("user", "alice")]);
        bytes.pop();
        assert_eq!(FirstPacket::parse(&bytes), Err(StartupError::Layout));
        assert_eq!(FirstPacket::parse(&packet(&[])), Err(StartupError::NoUser));
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        assert!(peek_len(&[0, 0, 0, 0]).is_err());
        assert!(peek_len(&[0x7f, 0xff, 0xff, 0xff]).is_err());
        assert_eq!(peek_len(&[0, 0]), Ok(None));
    }

    #[test]
    fn a_cancel_request_carries_its_key() {
        for len in [8, 36, 260] {
            let key = CancelKey::parse(&vec![7; len]).unwrap();
            let read = FirstPacket::parse(&key.request());
            assert_eq!(read, Ok(FirstPacket::Cancel(key)), "{len}");
        }
        let mut too_long = Vec::new();
        put_untagged(&mut too_long, |body| {
            body.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
            body.extend_from_slice(&[7; 261]);
        });
        assert_eq!(FirstPacket::parse(&too_long), Err(StartupError::Layout));
    }

    #[test]
    fn a_request_for_encryption_is_read_as_one() {
        let packet = ssl_request();
        assert_eq!(peek_len(&packet), Ok(Some(packet.len())));
        assert_eq!(FirstPacket::parse(&packet), Ok(FirstPacket::Ssl));
    }

    #[test]
    fn options_are_read_in_all_their_spellings() {
        let pairs = |text| {
            parse_options(text).map(|list| {
                list.iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect::<Vec<_>>()
                    .join(",")
            })
        };
        assert_eq!(
            pairs(r"-c a=1 -cb=2  --c-d=x\ y -c e=\\ -cf-g=-h"),
            Ok(r"a=1,b=2,c_d=x y,e=\,f_g=-h".to_owned())
        );
        assert_eq!(pairs(""), Ok(String::new()));
        for bad in ["-c", "-c a", "-a b=c", "x", "--=1"] {
            assert_eq!(pairs(bad), Err(OptionsError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_first_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = peek_len(&bytes);
            let _ = FirstPacket::parse(&bytes);
        }

        #[test]
        fn no_options_panic(text in ".*") {
            let _ = parse_options(&text);
        }
    }
}
