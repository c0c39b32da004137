//! Connects to a server: the socket, then TLS as far as it is asked for.

use std::io;

use rustls::pki_types::ServerName;
use thiserror::Error;
use wire::startup::ssl_request;

use crate::conn::Conn;
use crate::stream::{Stream, Target, TcpOptions};
use crate::tls::{HandshakeError, ServerTls};

/// How much TLS a connection is to have. Unix sockets have none.
#[derive(Debug, Clone, Copy)]
pub enum Encryption<'a> {
    /// None.
    Never,
    /// As the settings have it: perhaps only if the server can.
    AsSet(&'a ServerTls),
    /// Whatever the settings have: what will be said is not for the clear.
    Always(&'a ServerTls),
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("connect failed: {0}")]
    Connect(io::Error),
    /// The connection broke before TLS began.
    #[error("{0}")]
    Broken(io::Error),
    /// The server has no TLS, and must have it.
    #[error("server refused SSL")]
    Refused,
    /// The server said neither yes nor no.
    #[error("unexpected answer to SSL request: {0:#04x}")]
    Answer(u8),
    /// Somebody said something before it was encrypted.
    #[error("received unencrypted data after SSL response")]
    Stuffed,
    /// The handshake came to nothing.
    #[error("TLS handshake error: {0}")]
    Handshake(HandshakeError),
}

/// Connects.
pub async fn dial(
    target: &Target,
    options: &TcpOptions,
    encryption: Encryption<'_>,
) -> Result<Conn, DialError> {
    let stream = Stream::connect(target, options).await;
    let mut conn = Conn::new(stream.map_err(DialError::Connect)?);
    let (tls, required) = match encryption {
        Encryption::Never => return Ok(conn),
        Encryption::AsSet(tls) => (tls, tls.is_required()),
        Encryption::Always(tls) => (tls, true),
    };
    let Target::Tcp(addr, name) = target else {
        return Ok(conn);
    };
    let name = match name {
        Some(name) => match ServerName::try_from(name.to_string()) {
            Ok(name) => name,
            Err(error) if tls.checks_names() => return Err(unfit(error)),
            // What the resolver knew may still be no name for TLS.
            Err(_) => ServerName::from(addr.ip()),
        },
        None => ServerName::from(addr.ip()),
    };
    if !tls.is_direct() && !is_granted(&mut conn, required).await? {
        return Ok(conn);
    }
    let handshake = conn.connect_tls(tls, name).await;
    handshake.map_err(DialError::Handshake)?;
    Ok(conn)
}

fn unfit(error: impl std::error::Error + Send + Sync + 'static) -> DialError {
    DialError::Broken(io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Asks the server for TLS.
async fn is_granted(conn: &mut Conn, required: bool) -> Result<bool, DialError> {
    let asked = conn.send_all(&ssl_request()).await;
    asked.map_err(DialError::Broken)?;
    let answer = conn.hold_at_least(1).await.map_err(DialError::Broken)?;
    // More than one byte was not said by someone who waits for our handshake.
    let &[answer] = answer else {
        return Err(DialError::Stuffed);
    };
    conn.take_held(1);
    match answer {
        b'S' => Ok(true),
        b'N' if required => Err(DialError::Refused),
        b'N' => Ok(false),
        other => Err(DialError::Answer(other)),
    }
}
