//! Carries a cancel request to a server: one short connection.

use std::io;
use std::time::Duration;

use events::time::timeout;
use net::dial::{Encryption, dial};
use net::{Conn, TcpOptions};
use wire::CancelKey;

use super::Facts;

/// Longest time that each step of a cancel request may take without `server_connect_timeout`: while
/// it lasts the server is lent to nobody else.
const STEP_MAX: Duration = Duration::from_secs(15);

/// Connects to where the server is, encrypted if the server's own connection is.
pub async fn connect(
    facts: &Facts,
    options: &TcpOptions,
    limit: Option<Duration>,
) -> io::Result<Conn> {
    let encryption = match &facts.tls {
        Some(tls) => Encryption::Always(&tls.context),
        None => Encryption::Never,
    };
    let dialled = async {
        let dialled = dial(&facts.target, options, encryption).await;
        dialled.map_err(io::Error::other)
    };
    within(limit, dialled).await
}

/// Sends the request and waits until the server has closed the connection: only then has the
/// signal been sent, and the session it was for may be lent again. After an error it may still
/// be on its way.
pub async fn land(mut conn: Conn, key: &CancelKey, limit: Option<Duration>) -> io::Result<()> {
    let landing = async {
        conn.send_all(&key.request()).await?;
        match conn.hold_at_least(1).await {
            Err(error) if is_end(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    };
    within(limit, landing).await
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

async fn within<T>(
    limit: Option<Duration>,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit.unwrap_or(STEP_MAX), step)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
