//! The first packets of a connection, up to its startup or cancel request.

use net::Conn;
use net::tls::{ClientTls, HANDSHAKE};
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
/// each way, and TLS may begin without asking.
pub(super) async fn read(conn: &mut Conn, tls: Option<&ClientTls>) -> Result<Opening, Refused> {
    if let Some(tls) = tls
        && conn.hold_at_least(1).await?.first() == Some(&HANDSHAKE)
    {
        Box::pin(conn.accept_tls(tls)).await?;
    }
    let (mut asked_ssl, mut asked_gss) = (false, false);
    loop {
        match packet(conn).await? {
            FirstPacket::Ssl if conn.stream().secured().is_some() => {
                return Err(Refused::told("SSL req inside SSL"));
            }
            FirstPacket::Ssl if !asked_ssl => {
                asked_ssl = true;
                refuse_stuffing(conn, "SSL")?;
                match tls {
                    Some(tls) => {
                        conn.send_all(b"S").await?;
                        Box::pin(conn.accept_tls(tls)).await?;
                    }
                    None => conn.send_all(b"N").await?,
                }
            }
            FirstPacket::GssEnc if !asked_gss => {
                asked_gss = true;
                refuse_stuffing(conn, "GSSAPI encryption")?;
                conn.send_all(b"N").await?;
            }
            FirstPacket::Ssl | FirstPacket::GssEnc => {
                return Err(Refused::told("client re-sent startup pkt"));
            }
            FirstPacket::Cancel(key) => return Ok(Opening::Cancel(key)),
            FirstPacket::Startup(startup) => return Ok(Opening::Startup(startup)),
        }
    }
}

/// Whoever asks for encryption waits for the answer: what is there before it may be somebody
/// else's, who wants it taken for the client's own words.
fn refuse_stuffing(conn: &Conn, what: &str) -> Result<(), Refused> {
    if conn.has_held() {
        return Err(Refused::Told(format!(
            "received unencrypted data after {what} request"
        )));
    }
    Ok(())
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
