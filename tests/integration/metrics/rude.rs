//! Readers who mean no good keep nobody else out.

use testkit::{FakeServer, Page};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Scrape, told};
use crate::support::alice;

#[tokio::test]
async fn who_holds_connections_open_keeps_nobody_out() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1).start().await;
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", pooler.metrics_port()))
            .await
            .unwrap();
        // Some may have been shown the door already.
        let _ = stream.write_all(b"GET /metrics HT").await;
        held.push(stream);
    }
    Scrape::of(&pooler).await;
    assert_eq!(pooler.page("/livez").await.body, "alive\n");
    // Nor do they add up.
    let files = pooler.open_files();
    assert!(files < 100, "{files} open files");
    assert_eq!(alice(&pooler).await.query_value("SELECT 1").await, "1");
}

#[tokio::test]
async fn nonsense_is_refused_and_only_reading_is_allowed() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1).start().await;
    let port = pooler.metrics_port();
    assert_eq!(pooler.page("/etc/passwd").await.status, 404);
    let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let refusal = Page::ask(port, post).await;
    assert_eq!(refusal.status, 405);
    assert!(refusal.head.to_lowercase().contains("allow: get, head"));
    let long = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "a".repeat(1_000_000)
    );
    // Refused, or cut off while it still talks.
    let answer = Page::try_ask(port, &long).await;
    assert!(answer.is_err() || answer.is_ok_and(|page| page.status == 431));
    let nonsense = Page::try_ask(port, "\u{0}\u{1}\r\n\r\n").await;
    assert!(nonsense.is_err() || nonsense.is_ok_and(|page| page.status == 400));
    let head = Page::ask(port, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    Scrape::of(&pooler).await;
}
