//! What takes too long: who is told what, which sockets close, and that others go on.

mod clients;
mod overrides;
mod servers;
mod waiting;

use testkit::FakeClient;

/// Reads on to the session's end, which must be this refusal, and returns when it is closed.
async fn ends_with(client: &mut FakeClient, text: &str) {
    let last_words = client.expect_closed().await;
    let error = last_words.last().and_then(testkit::Message::error_fields);
    let error = error.unwrap_or_else(|| panic!("no error, but {last_words:?}"));
    assert_eq!(error.to_string(), format!("FATAL 08P01: {text}"));
}
