//! Prepared statements, pooled: names are the client's, statements the servers'.

mod cache;
mod errors;
mod order;

use testkit::{FakeClient, Message, Pooler, Row};

use crate::support::converse;

/// Binds and runs a statement that there is.
fn run(name: &str, values: &[Option<&str>]) -> [Message; 2] {
    [Message::bind("", name, values), Message::execute("")]
}

/// Says it all at once, with a Sync behind it, and returns the answer.
async fn say(client: &mut FakeClient, messages: &[&[Message]]) -> Vec<Message> {
    let all = [&messages.concat()[..], &[Message::sync()]].concat();
    converse(client, &all, 1).await
}

/// Gives a name to a query.
async fn prepare(client: &mut FakeClient, name: &str, sql: &str) {
    let answer = say(client, &[&[Message::parse(name, sql)]]).await;
    assert_eq!(answer[0], Message::parse_complete(), "{answer:?}");
}

/// The first value of the first row that a prepared statement returns.
async fn value(client: &mut FakeClient, name: &str, values: &[Option<&str>]) -> String {
    first_value(&say(client, &[&run(name, values)]).await)
}

fn first_value(answer: &[Message]) -> String {
    let row = answer.iter().find_map(Message::values);
    let value = row.unwrap_or_else(|| panic!("no row in {answer:?}"))[0].clone();
    value.expect("a value")
}

/// The code of the first error in an answer.
fn code(answer: &[Message]) -> String {
    let error = answer.iter().find_map(Message::error_fields);
    let error = error.unwrap_or_else(|| panic!("no error in {answer:?}"));
    error.code().to_owned()
}

/// What SHOW STATS says of prepared statements: Parses of clients, Parses to servers, Binds.
async fn counts(pooler: &Pooler) -> [i64; 3] {
    let console = pooler.console().await;
    let row: Row = console.show_row("STATS", "database", "app").await;
    ["client", "server"]
        .map(|side| row.number(&format!("total_{side}_parse_count")))
        .into_iter()
        .chain([row.number("total_bind_count")])
        .collect::<Vec<_>>()
        .try_into()
        .expect("three")
}

/// The names of the statements that the client's server has, in order.
const NAMES: &str = "SELECT string_agg(name, ' ' ORDER BY prepare_time) FROM pg_prepared_statements \
     WHERE from_sql IS FALSE";
