//! A reader of web pages, for what programs under test serve.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::eventually::in_time;

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// Everything before the body.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Page {
    /// Fetches a page from a port of this machine.
    pub async fn get(port: u16, path: &str) -> Self {
        Self::ask(port, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await
    }

    /// Says this, and reads what comes up to the end of the connection.
    pub async fn ask(port: u16, request: &str) -> Self {
        let page = in_time("a page", Self::try_ask(port, request)).await;
        page.unwrap_or_else(|error| panic!("{request}: {error}"))
    }

    /// The same, or why there is no answer.
    pub async fn try_ask(port: u16, request: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer: {head:?}")))?;
        Ok(Self {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }
}
