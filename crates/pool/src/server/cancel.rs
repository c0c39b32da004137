//! Carries a cancel request to a server: one short connection.

use std::io;
use std::time::Duration;

use net::dial::{DialError, Encryption, dial};
use net::{Conn, TcpOptions};
use tokio::time::timeout;
use wire::CancelKey;

use super::Facts;

/// Longest time that a cancel request may take on its way, once it is sent.
const LANDING_MAX: Duration = Duration::from_secs(15);

/// Connects to where the server is, encrypted if the server's own connection is.
pub async fn connect(facts: &Facts, options: &TcpOptions) -> Result<Conn, DialError> {
    let encryption = match &facts.tls {
        Some(tls) => Encryption::Always(&tls.context),
        None => Encryption::Never,
    };
    timeout(LANDING_MAX, dial(&facts.target, options, encryption))
        .await
        .unwrap_or_else(|_| Err(DialError::Connect(io::ErrorKind::TimedOut.into())))
}

/// Sends the request and waits until the server has closed the connection: only then has the
/// signal been sent, and the session it was for may be lent again.
pub async fn land(mut conn: Conn, key: CancelKey) -> io::Result<()> {
    let landing = async {
        conn.send_all(&key.request()).await?;
        match conn.hold_at_least(1).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    };
    timeout(LANDING_MAX, landing)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
