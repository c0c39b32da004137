//! `--healthcheck`: asks a running pooler how it is, where there is no other client to ask with.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pool::server::login::socket_path;
use settings::Settings;

/// Longest time that connecting, asking and answering may take each.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of an answer that are read.
const ANSWER_LEN_MAX: u64 = 64 * 1024;

/// A request for TLS in PostgreSQL's protocol: any server answers with one byte.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Asks `/readyz` if these settings have it, else whether clients are answered at all.
pub(crate) fn ask(settings: &Settings) -> io::Result<()> {
    let port = settings.metrics_port;
    match settings.metrics_listen_addr.iter().next() {
        Some(entry) if port != 0 => ask_readiness(entry, port),
        _ => ask_for_an_answer(settings),
    }
}

fn ask_readiness(entry: &str, port: u16) -> io::Result<()> {
    let mut stream = connect(entry, port)?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: pgusher\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_LEN_MAX).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1);
    if status == Some("200") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Err(io::Error::other(format!("not ready: {body}")))
}

fn ask_for_an_answer(settings: &Settings) -> io::Result<()> {
    let port = settings.listen_port;
    if let Some(entry) = settings.listen_addr.iter().next() {
        return has_answer(connect(entry, port)?);
    }
    let dir = settings.unix_socket_dir.as_ref();
    let dir = dir.ok_or_else(|| io::Error::other("it listens nowhere"))?;
    let stream = UnixStream::connect(socket_path(dir, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    has_answer(stream)
}

fn has_answer(mut stream: impl Read + Write) -> io::Result<()> {
    stream.write_all(&SSL_REQUEST)?;
    stream.read_exact(&mut [0])
}

fn connect(entry: &str, port: u16) -> io::Result<TcpStream> {
    // Where it listens everywhere, it does so here.
    let host = match entry {
        "*" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        entry => entry,
    };
    let mut failure = io::Error::other("no address");
    for addr in (host, port).to_socket_addrs()? {
        match reach(&addr) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn reach(addr: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
