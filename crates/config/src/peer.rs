//! An entry of `[peers]`: another process that cancel requests may belong to.

use crate::connstr::{PairError, each_pair};
use crate::finding::Problem;
use crate::host::Host;

const PORT_DEFAULT: u16 = 6432;

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its peer_id.
    pub id: u16,
    /// Where it listens.
    pub host: Host,
    /// The port it listens on.
    pub port: u16,
    /// Connections to it at a time; `None` leaves that to default_pool_size.
    pub pool_size: Option<u32>,
}

impl Peer {
    /// Reads the number before the `=`.
    pub(crate) fn parse_id(text: &str) -> Option<u16> {
        text.parse().ok().filter(|id| *id > 0)
    }

    pub(crate) fn parse(id: u16, text: &str) -> Result<Self, PairError> {
        let mut host = None;
        let mut port = PORT_DEFAULT;
        let mut pool_size = None;
        each_pair(text, |pair| {
            match pair.key.as_str() {
                "host" => {
                    let parsed = Host::parse(&pair.value);
                    host = Some(parsed.ok_or_else(|| pair.refused(Host::EXPECTS))?);
                }
                "port" => port = pair.port()?,
                "pool_size" => pool_size = pair.size()?,
                unknown => return Err(PairError::unknown(unknown, KEYS)),
            }
            Ok(())
        })?;
        let host = host.ok_or_else(|| PairError::new("", Problem::Needs("host")))?;
        Ok(Self {
            id,
            host,
            port,
            pool_size,
        })
    }
}

const KEYS: &[&str] = &["host", "port", "pool_size"];
