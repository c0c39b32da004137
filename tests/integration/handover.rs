//! What follows a take-over: clients and servers go over to the new process, and notice nothing.

mod broken;
mod clients;
mod limits;
mod load;

use testkit::{FakeClient, Message, Pooler};

/// Waits until the process has ended by itself.
async fn ends(mut process: Pooler) {
    assert!(process.wait_exit().await.success(), "{}", process.log());
}

/// Which session of PostgreSQL serves the client now.
async fn backend(client: &mut FakeClient) -> String {
    client.query_value("SELECT pg_backend_pid()").await
}

/// Prepares a statement under this name.
async fn prepare(client: &mut FakeClient, name: &str, sql: &str) {
    let say = [Message::parse(name, sql), Message::sync()];
    client.send_all(&say).await;
    client.read_until_ready().await;
}

/// Executes what was prepared under this name.
async fn execute(client: &mut FakeClient, name: &str) -> Vec<Message> {
    let say = [
        Message::bind("", name, &[]),
        Message::execute(""),
        Message::sync(),
    ];
    client.send_all(&say).await;
    client.read_until_ready().await
}

/// The first value of the first row.
fn value(answer: &[Message]) -> String {
    let mut rows = answer.iter().filter_map(Message::values);
    let value = rows.next().and_then(|row| row.into_iter().next().flatten());
    value.unwrap_or_else(|| panic!("{answer:?}"))
}
