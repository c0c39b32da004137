//! When a session may be resumed instead of agreed on anew.

use rustls::HandshakeKind;

use super::*;

/// Shakes hands twice between the same two, and tells how the second time went.
fn second_handshake(settings: &Settings) -> HandshakeKind {
    let (clients, servers) = (clients(settings), servers(settings));
    let mut kind = None;
    for _ in 0..2 {
        let mut pair = Pair::between(&clients, &servers);
        pair.shake_hands().unwrap();
        kind = pair.client.agreed().handshake_kind();
    }
    kind.unwrap()
}

#[test]
fn sessions_are_resumed_where_nobody_shows_a_certificate_that_counts() {
    let authority = Authority::new("authority");
    for protocol in ["tlsv1.2", "tlsv1.3"] {
        let mut settings = serving(&authority.issue("localhost"));
        set(&mut settings, "client_tls_protocols", protocol);
        assert_eq!(
            second_handshake(&settings),
            HandshakeKind::Resumed,
            "{protocol}"
        );
    }
}

#[test]
fn every_handshake_is_a_whole_one_where_certificates_are_verified() {
    let authority = Authority::new("authority");
    let ca = authority.certificate().cert.to_str().unwrap().to_owned();
    let own = authority.issue("alice");
    for protocol in ["tlsv1.2", "tlsv1.3"] {
        let mut clients_verified = serving(&authority.issue("localhost"));
        set(&mut clients_verified, "client_tls_protocols", protocol);
        let mut servers_verified = clients_verified.clone();
        set(&mut clients_verified, "client_tls_sslmode", "verify-full");
        set(&mut clients_verified, "client_tls_ca_file", &ca);
        let files = [("cert", &own.cert), ("key", &own.key)];
        for (name, path) in files {
            let path = path.to_str().unwrap();
            set(
                &mut clients_verified,
                &format!("server_tls_{name}_file"),
                path,
            );
        }
        set(&mut servers_verified, "server_tls_sslmode", "verify-full");
        set(&mut servers_verified, "server_tls_ca_file", &ca);
        for settings in [clients_verified, servers_verified] {
            assert_eq!(
                second_handshake(&settings),
                HandshakeKind::Full,
                "{protocol}"
            );
        }
    }
}

#[test]
fn new_certificates_end_what_could_be_resumed() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let settings = serving(&certificate);
    let before = Tls::load(&settings).unwrap();
    let shake_hands = |tls: &Tls| {
        let (clients, servers) = (
            tls.clients.as_ref().unwrap(),
            before.servers.as_ref().unwrap(),
        );
        let mut pair = Pair::between(clients, servers);
        pair.shake_hands().unwrap();
        pair.client.agreed().handshake_kind().unwrap()
    };
    shake_hands(&before);
    assert_eq!(
        shake_hands(&before.renewed(&settings).unwrap()),
        HandshakeKind::Resumed
    );

    authority.issue("localhost").replace(&certificate);
    let after = before.renewed(&settings).unwrap();
    assert_eq!(shake_hands(&after), HandshakeKind::Full);
}
