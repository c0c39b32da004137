//! The first packets of a connection, up to its startup or cancel request.

use net::Conn;
use wire::startup::{self, FirstPacket};
use wire::{CancelKey, Startup};

use super::Refused;

/// What a connection is for.
pub(super) enum Opening {
    /// A session.
    Startup(Startup),
    /// Stopping another session's query.
    Cancel(CancelKey),
}

/// Reads packets until one says what the connection is for. Encryption is asked for at most once
/// each way; there is none yet.
pub(super) async fn read(conn: &mut Conn) -> Result<Opening, Refused> {
    let (mut asked_ssl, mut asked_gss) = (false, false);
    loop {
        match packet(conn).await? {
            FirstPacket::Ssl if !asked_ssl => asked_ssl = true,
            FirstPacket::GssEnc if !asked_gss => asked_gss = true,
            FirstPacket::Ssl | FirstPacket::GssEnc => {
                return Err(Refused::told("client re-sent startup pkt"));
            }
            FirstPacket::Cancel(key) => return Ok(Opening::Cancel(key)),
            FirstPacket::Startup(startup) => return Ok(Opening::Startup(startup)),
        }
        conn.send_all(b"N").await?;
    }
}

async fn packet(conn: &mut Conn) -> Result<FirstPacket, Refused> {
    let len = loop {
        let front = conn.hold_at_least(4).await?;
        // The code behind the length belongs to a good message about a bad one.
        if let Some(len) = startup::peek_len(front)? {
            break len;
        }
    };
    conn.hold_at_least(len).await?;
    Ok(FirstPacket::parse(&conn.take_held(len))?)
}
