//! Messages survive the wire, and read well.

use expect_test::expect;

use super::*;

#[test]
fn a_message_taken_off_the_wire_is_the_one_put_there() {
    let sent = [
        Message::query("SELECT 1"),
        Message::sync(),
        Message::bind("", "s", &[None]),
    ];
    let mut bytes = encode_all(&sent);

    let taken: Vec<_> = std::iter::from_fn(|| Message::take(Side::Client, &mut bytes)).collect();

    assert_eq!(taken, sent);
    assert!(bytes.is_empty());
}

#[test]
fn half_a_message_is_left_until_the_rest_arrives() {
    let whole = Message::query("SELECT 1").encode();
    for len in 0..whole.len() {
        let mut half = whole[..len].to_vec();
        assert_eq!(Message::take(Side::Client, &mut half), None);
        assert_eq!(half.len(), len);
    }
}

#[test]
fn a_startup_packet_taken_off_the_wire_is_the_one_put_there() {
    let key = CancelKey {
        pid: 7,
        secret: vec![1, 2, 3, 4],
    };
    let session = Startup::Session {
        version: startup::PROTOCOL_3_0,
        parameters: vec![
            ("user".into(), "alice".into()),
            ("database".into(), String::new()),
        ],
    };
    for sent in [session, Startup::Cancel(key), Startup::Tls, Startup::Gss] {
        let mut bytes = sent.encode();
        assert_eq!(Startup::take(&mut bytes), Some(Some(sent)));
        assert!(bytes.is_empty());
    }
}

#[test]
fn a_transcript_is_a_message_a_line() {
    let talk = [
        Message::password("secret"),
        Message::query("SELECT 'x'"),
        Message::row_description(&["a", "b"]),
        Message::data_row(&[Some("x"), None]),
        Message::command_complete("SELECT 1"),
        Message::error("ERROR", "42P01", "no such table"),
        Message::ready(Tx::Failed),
        Message::bind("p", "s", &[Some("1")]),
        Message::copy_data(Side::Server, &[b'x'; 100]),
    ];
    expect![[r#"
        > Password ***
        > Query "SELECT 'x'"
        < RowDescription a, b
        < DataRow ["x", NULL]
        < CommandComplete "SELECT 1"
        < ErrorResponse ERROR 42P01: no such table
        < ReadyForQuery in failed transaction
        > Bind "s" to "p" ["1"]
        < CopyData of 100 bytes
    "#]]
    .assert_eq(&transcript(&talk));
}
