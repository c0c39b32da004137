//! The packets without a tag, with which every connection starts.

use super::{Body, put_len, put_text};

/// What a connection wants first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    /// A session with these parameters, `user` and `database` among them.
    Session {
        /// Major in the upper half, minor in the lower.
        version: u32,
        /// In the order they came.
        parameters: Vec<(String, String)>,
    },
    /// To cancel another's query.
    Cancel(CancelKey),
    /// TLS.
    Tls,
    /// GSSAPI encryption.
    Gss,
}

pub(crate) const PROTOCOL_3_0: u32 = 3 << 16;
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

impl Startup {
    /// As it travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Session {
                version,
                parameters,
            } => {
                body.extend_from_slice(&version.to_be_bytes());
                for (name, value) in parameters {
                    put_text(&mut body, name);
                    put_text(&mut body, value);
                }
                body.push(0);
            }
            Self::Cancel(key) => {
                body.extend_from_slice(&CANCEL.to_be_bytes());
                body.extend(key.encode());
            }
            Self::Tls => body.extend_from_slice(&TLS.to_be_bytes()),
            Self::Gss => body.extend_from_slice(&GSS.to_be_bytes()),
        }
        let mut packet = Vec::new();
        put_len(&mut packet, body.len() + 4);
        packet.extend(body);
        packet
    }

    /// Takes the packet off `bytes`, if it is all there; `Some(None)` is one that says nothing.
    pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Option<Self>> {
        let (&len, rest) = bytes.split_first_chunk()?;
        let len = u32::from_be_bytes(len) as usize;
        let startup = Self::read(rest.get(..len.saturating_sub(4))?);
        bytes.drain(..len);
        Some(startup)
    }

    fn read(body: &[u8]) -> Option<Self> {
        let (&version, rest) = body.split_first_chunk()?;
        Some(match u32::from_be_bytes(version) {
            CANCEL => Self::Cancel(CancelKey::read(rest)?),
            TLS => Self::Tls,
            GSS => Self::Gss,
            version => {
                let mut body = Body(rest);
                let mut parameters = Vec::new();
                while let Some(name) = body.text().filter(|name| !name.is_empty()) {
                    parameters.push((name, body.text()?));
                }
                Self::Session {
                    version,
                    parameters,
                }
            }
        })
    }
}

/// A startup packet of protocol 3.0.
pub fn startup_packet(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_packet_of(0, parameters)
}

/// A startup packet of this minor version of protocol 3.
pub fn startup_packet_of(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let parameters = parameters.iter().map(owned).collect();
    Startup::Session {
        version: PROTOCOL_3_0 | u32::from(minor),
        parameters,
    }
    .encode()
}

/// What a cancel request must show: BackendKeyData.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelKey {
    /// The server process.
    pub pid: u32,
    /// Four bytes; up to 256 in protocol 3.2.
    pub secret: Vec<u8>,
}

impl CancelKey {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&self.pid.to_be_bytes()[..], &self.secret].concat()
    }

    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (&pid, secret) = body.split_first_chunk()?;
        Some(Self {
            pid: u32::from_be_bytes(pid),
            secret: secret.to_vec(),
        })
    }
}
