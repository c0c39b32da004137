//! Records, however they are cut and whatever room there is.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::tls::records::TEXT_MAX;

/// Both sides' settings, with this list of versions.
fn settings(protocols: &str) -> Settings {
    // Made once: some tests begin very often.
    static CERTIFICATE: LazyLock<(Authority, Certificate)> = LazyLock::new(|| {
        let authority = Authority::new("authority");
        let certificate = authority.issue("localhost");
        (authority, certificate)
    });
    let mut settings = serving(&CERTIFICATE.1);
    set(&mut settings, "client_tls_protocols", protocols);
    settings
}

/// A pair whose handshake is over, of this version.
fn pair(protocol: &str) -> Pair {
    let mut pair = Pair::of(&settings(protocol));
    pair.shake_hands().unwrap();
    pair
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_handshake_agrees_on_openssls_names() {
    for (protocol, expected) in [
        ("tlsv1.3", "TLSv1.3/TLS_AES_256_GCM_SHA384"),
        ("tlsv1.2", "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384"),
    ] {
        let pair = pair(protocol);
        assert_eq!(Cipher::of(pair.server.agreed()).to_string(), expected);
        let agreed = pair.client.agreed();
        let cipher = Cipher::of(agreed).with_curve(agreed);
        assert_eq!(cipher.to_string(), format!("{expected}/ECDH=X25519"));
    }
}

#[test]
fn a_handshake_works_whatever_the_bytes_are_cut_into() {
    for protocol in ["tlsv1.2", "tlsv1.3"] {
        let settings = settings(protocol);
        for cut in [1, 2, 3, 7, 100] {
            let mut pair = Pair::of(&settings);
            pair.client.advance().unwrap();
            while pair.client.agreed().is_handshaking() || pair.server.agreed().is_handshaking() {
                carry(&mut pair.client, &mut pair.server, cut).unwrap();
                carry(&mut pair.server, &mut pair.client, cut).unwrap();
            }
            pair.settle().unwrap();
            pair.client.seal(b"SELECT 1").unwrap();
            while !pair.client.sealed().is_empty() {
                carry(&mut pair.client, &mut pair.server, cut).unwrap();
            }
            assert_eq!(
                read_all(&mut pair.server, 3),
                b"SELECT 1",
                "{protocol} {cut}"
            );
        }
    }
}

#[test]
fn nothing_is_sealed_before_the_handshake_is_over() {
    let mut pair = Pair::of(&settings("secure"));
    let too_early = Err(rustls::Error::HandshakeNotComplete);
    assert_eq!(pair.client.seal(b"secret"), too_early);
    assert_eq!(pair.server.seal(b"secret"), too_early);
    assert_eq!(pair.server.seal_farewell(), too_early);
}

#[test]
fn a_farewell_ends_the_text_and_not_before_it() {
    for protocol in ["tlsv1.2", "tlsv1.3"] {
        let mut pair = pair(protocol);
        pair.client.seal(b"last words").unwrap();
        pair.client.seal_farewell().unwrap();
        pair.settle().unwrap();
        assert!(pair.server.is_ended() && pair.server.has_text());
        assert_eq!(read_all(&mut pair.server, 100), b"last words");
        assert_eq!(pair.server.read(&mut [0; 10]), Some(0));
        // The other direction stays open until it is closed, too.
        pair.server.seal(b"I heard").unwrap();
        pair.server.seal_farewell().unwrap();
        pair.settle().unwrap();
        assert_eq!(read_all(&mut pair.client, 100), b"I heard");
        assert!(pair.client.is_ended());
    }
}

#[test]
fn what_was_changed_on_the_way_is_an_error_and_the_sender_hears_of_it() {
    for protocol in ["tlsv1.2", "tlsv1.3"] {
        let mut pair = pair(protocol);
        pair.client.seal(b"SELECT 1").unwrap();
        let mut arrived = pair.client.sealed().to_vec();
        *arrived.last_mut().unwrap() ^= 1;
        let error = pair.server.take_in(&mut arrived, 0).unwrap_err();
        assert_eq!(error, rustls::Error::DecryptError);
        assert!(pair.server.is_ended() && !pair.server.has_text());
        let told = carry(&mut pair.server, &mut pair.client, usize::MAX).unwrap_err();
        assert!(told.to_string().contains("BadRecordMac"), "{told}");
    }
}

#[test]
fn text_in_the_clear_is_no_handshake() {
    let mut pair = Pair::of(&settings("secure"));
    let mut arrived = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    assert!(pair.server.take_in(&mut arrived, 0).is_err());
    assert!(pair.server.agreed().is_handshaking());
}

/// Says a lot, of which records arrive in part.
fn say_in_pieces(from: &mut Records, to: &mut Records) {
    from.seal(&text(100_000)).unwrap();
    while !from.sealed().is_empty() {
        carry(from, to, 10_000).unwrap();
    }
    assert_eq!(read_all(to, 8192), text(100_000));
}

#[test]
fn an_idle_connection_keeps_next_to_nothing() {
    let mut pair = pair("tlsv1.3");
    for _ in 0..3 {
        say_in_pieces(&mut pair.client, &mut pair.server);
        say_in_pieces(&mut pair.server, &mut pair.client);
    }
    assert!(pair.client.kept() + pair.server.kept() <= 6 * 256);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the sender's bytes are cut, and however much room the reader lends.
    #[test]
    fn text_arrives_as_it_was_written(
        writes in proptest::collection::vec(0..60_000_usize, 1..6),
        cuts in proptest::collection::vec(1..50_000_usize, 1..20),
        rooms in proptest::collection::vec(0..70_000_usize, 1..10),
        new_version in any::<bool>(),
    ) {
        let mut pair = pair(if new_version { "tlsv1.3" } else { "tlsv1.2" });
        let mut expected = Vec::new();
        for len in writes {
            pair.client.seal(&text(len)).unwrap();
            expected.extend_from_slice(&text(len));
        }
        let mut seen = Vec::new();
        let (mut cuts, mut rooms) = (cuts.iter().cycle(), rooms.iter().cycle());
        while !pair.client.sealed().is_empty() {
            let count = pair.client.sealed().len().min(*cuts.next().unwrap());
            let arrived = pair.client.sealed()[..count].to_vec();
            pair.client.sent(count);
            // With a gap, text is put into the reader's buffer; without, it is kept.
            let gap = if rooms.next().unwrap() % 2 == 0 { TEXT_MAX } else { 0 };
            let mut buffer = vec![0; gap];
            buffer.extend_from_slice(pair.server.partial());
            buffer.extend_from_slice(&arrived);
            let filled = pair.server.take_in(&mut buffer, gap).unwrap();
            seen.extend_from_slice(&buffer[..filled]);
            seen.extend(read_all(&mut pair.server, 1 + rooms.next().unwrap()));
        }
        prop_assert_eq!(seen, expected);
        prop_assert!(pair.server.partial().is_empty());
    }

    #[test]
    fn no_bytes_make_us_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), agreed in any::<bool>()) {
        let mut pair = if agreed {
            pair("secure")
        } else {
            Pair::of(&settings("secure"))
        };
        let mut arrived = bytes.clone();
        let _ = pair.server.take_in(&mut arrived, 0);
        let mut arrived = [&[0x16, 3, 1, 1, 0], bytes.as_slice()].concat();
        let _ = pair.server.take_in(&mut arrived, 0);
    }
}
