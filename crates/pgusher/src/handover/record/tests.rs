//! Frames there and back, and bytes that are none.

use proptest::prelude::*;

use super::*;

fn place() -> Place {
    Place {
        database: "app".to_owned(),
        user: "alice".to_owned(),
    }
}

fn values() -> Values {
    vec![("TimeZone".to_owned(), "Europe/Berlin".to_owned())]
}

fn statement() -> StatementRecord {
    StatementRecord {
        id: 7,
        shape: 9,
        superseded: true,
        definition: b"select $1\0\0\0"[..].into(),
    }
}

fn server() -> ServerRecord {
    ServerRecord {
        place: place(),
        origin: "there".to_owned(),
        id: 13,
        target: TargetRecord {
            address: Some("127.0.0.1:5432".to_owned()),
            name: None,
            path: Bytes::default(),
        },
        key: Some(b"87654321"[..].into()),
        connect_time: 4,
        age: 5,
        unused_for: 6,
        touched: true,
        defaults: values(),
        params: Vec::new(),
        statements: vec![statement()],
    }
}

/// One frame of each kind.
fn frames() -> Vec<Frame> {
    vec![
        Frame::Pool(PoolRecord {
            place: place(),
            servers: 3,
            origin: "there".to_owned(),
            typed: Some(b"secret"[..].into()),
            queried: None,
            scram_keys: Some((b"client"[..].into(), b"server"[..].into())),
            reported: Some((values(), Vec::new())),
        }),
        Frame::Guests(GuestsRecord {
            place: place(),
            count: 5,
        }),
        Frame::Census(RestRecord {
            paused: true,
            paused_databases: vec!["app".to_owned()],
            disabled_databases: Vec::new(),
        }),
        Frame::Client(ClientRecord {
            id: 12,
            user: "alice".to_owned(),
            place: place(),
            key: b"12345678"[..].into(),
            connect_time: 1,
            age: 2,
            silent_for: 3,
            params: values(),
            statements: vec![(b"s1"[..].into(), statement())],
            held: b"Q\0\0\0\x05\0"[..].into(),
            server: Some(server()),
        }),
        Frame::Server(server()),
        Frame::Left(place()),
        Frame::Closed(place()),
        Frame::Wanted(place()),
        Frame::Enter(EnterRecord {
            number: 1,
            place: place(),
        }),
        Frame::Answer(AnswerRecord {
            number: 1,
            yes: true,
        }),
        Frame::Grant(place()),
        Frame::Needed(NeedRecord {
            scope: 2,
            place: place(),
        }),
    ]
}

#[test]
fn frames_are_read_as_they_were_written_once_all_of_them_is_there() {
    for frame in frames() {
        let bytes = frame.encode().unwrap();
        for len in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..len]) == Ok(None));
        }
        let both = [&bytes[..], b"more"].concat();
        assert!(Frame::decode(&both) == Ok(Some((frame, bytes.len()))));
    }
}

#[test]
fn a_frame_that_is_too_long_is_not_sent_and_not_awaited() {
    let long = Frame::Left(Place {
        database: "x".repeat(FRAME_MAX),
        user: String::new(),
    });
    assert!(long.encode().is_none());
    let promised = u32::try_from(FRAME_MAX + 1).unwrap().to_be_bytes();
    assert!(Frame::decode(&promised) == Err(Malformed));
    assert!(Frame::decode(&[0; 4]) == Err(Malformed));
}

#[test]
fn what_is_left_over_or_missing_makes_a_frame_none() {
    for frame in frames() {
        let mut bytes = frame.encode().unwrap().to_vec();
        let len = bytes.len() - LEN;
        let fitting = |len: usize| u32::try_from(len).unwrap().to_be_bytes();
        bytes.push(0);
        bytes[..LEN].copy_from_slice(&fitting(len + 1));
        assert!(Frame::decode(&bytes) == Err(Malformed));
        bytes.truncate(LEN + len - 1);
        bytes[..LEN].copy_from_slice(&fitting(len - 1));
        assert!(Frame::decode(&bytes) == Err(Malformed));
    }
}

proptest! {
    #[test]
    fn no_bytes_do_harm(kind in 0u8..20, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let len = u32::try_from(body.len() + 1).unwrap();
        let bytes = [&len.to_be_bytes()[..], &[kind], &body].concat();
        if let Ok(Some((frame, read))) = Frame::decode(&bytes) {
            prop_assert_eq!(read, bytes.len());
            prop_assert!(frame.encode().is_some_and(|it| *it == bytes));
        }
    }

    #[test]
    fn a_frame_with_wrong_bytes_does_no_harm(
        which in 0usize..12, at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = frames()[which].encode().unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Frame::decode(&bytes);
    }
}
