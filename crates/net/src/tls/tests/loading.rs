//! What settings and files can be followed, and what is said of those that can't.

use testkit::Key;

use super::*;

/// Why these settings can't be followed.
fn refusal(settings: &Settings) -> String {
    Tls::load(settings).unwrap_err().to_string()
}

#[test]
fn keys_are_read_in_every_shape_that_openssl_writes() {
    let authority = Authority::new("authority");
    let keys = [
        Key::EcSec1,
        Key::EcPkcs8,
        Key::RsaPkcs1,
        Key::RsaPkcs8,
        Key::Ed25519,
    ];
    for key in keys {
        for protocol in ["tlsv1.2", "tlsv1.3"] {
            let certificate = authority.request("localhost").key(key).issue();
            let file = std::fs::read(&certificate.cert).unwrap();
            assert!(file.starts_with(b"Certificate:"), "text comes first");
            let mut settings = serving(&certificate);
            set(&mut settings, "client_tls_protocols", protocol);
            let mut pair = Pair::of(&settings);
            pair.shake_hands()
                .unwrap_or_else(|error| panic!("{key:?} {protocol}: {error}"));
        }
    }
}

#[test]
fn a_missing_file_is_named_with_the_systems_reason() {
    let authority = Authority::new("authority");
    let good = serving(&authority.issue("localhost"));
    for (key, what) in [
        ("client_tls_cert_file", "certificate"),
        ("client_tls_key_file", "private key"),
        ("client_tls_ca_file", "CA"),
        ("server_tls_ca_file", "CA"),
    ] {
        let mut settings = good.clone();
        set(&mut settings, key, "/nowhere/file");
        let told = refusal(&settings);
        let expected = format!("failed to load {what} file \"/nowhere/file\": No such file");
        assert!(told.starts_with(&expected), "{told}");
    }
}

#[test]
fn files_that_hold_something_else_are_refused() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let mut settings = serving(&certificate);
    set(
        &mut settings,
        "client_tls_cert_file",
        certificate.key.to_str().unwrap(),
    );
    assert!(refusal(&settings).contains("failed to load certificate file"));
    let mut settings = serving(&certificate);
    set(
        &mut settings,
        "client_tls_key_file",
        certificate.cert.to_str().unwrap(),
    );
    assert!(refusal(&settings).contains("failed to load private key file"));
}

#[test]
fn another_certificates_key_is_refused() {
    let authority = Authority::new("authority");
    let (one, other) = (authority.issue("localhost"), authority.issue("localhost"));
    let mixed = Certificate {
        cert: one.cert,
        key: other.key,
    };
    assert_eq!(refusal(&serving(&mixed)), "private/public key mismatch");
    let v3 = authority
        .request("localhost")
        .extension("subjectAltName = DNS:localhost");
    let mixed = Certificate {
        key: mixed.key,
        ..v3.issue()
    };
    assert_eq!(refusal(&serving(&mixed)), "private/public key mismatch");
}

#[test]
fn settings_that_need_others_say_which() {
    let mut settings = Settings::default();
    set(&mut settings, "client_tls_sslmode", "prefer");
    assert_eq!(
        refusal(&settings),
        "client_tls_sslmode needs client_tls_cert_file"
    );

    let authority = Authority::new("authority");
    let mut settings = serving(&authority.issue("localhost"));
    for mode in ["verify-ca", "verify-full"] {
        set(&mut settings, "client_tls_sslmode", mode);
        assert_eq!(
            refusal(&settings),
            "client_tls_sslmode needs client_tls_ca_file"
        );
    }
    let mut settings = Settings::default();
    set(&mut settings, "server_tls_key_file", "x");
    assert_eq!(
        refusal(&settings),
        "server_tls_key_file needs server_tls_cert_file"
    );
}

#[test]
fn what_can_not_be_had_is_refused_or_warned_of() {
    let authority = Authority::new("authority");
    let good = serving(&authority.issue("localhost"));
    for (key, value, expected) in [
        (
            "client_tls_protocols",
            "sslv3",
            "invalid client_tls_protocols: sslv3",
        ),
        (
            "server_tls_protocols",
            "tlsv1.1",
            "invalid server_tls_protocols: tlsv1.1",
        ),
        (
            "client_tls_ciphers",
            "blah",
            "invalid client_tls_ciphers: blah",
        ),
        (
            "client_tls_ecdhcurve",
            "sect571r1",
            "invalid client_tls_ecdhcurve: sect571r1",
        ),
        (
            "client_tls_dheparams",
            "much",
            "invalid client_tls_dheparams: much",
        ),
        (
            "server_tls13_ciphers",
            "TLS_NONE",
            "failed to set the TLSv1.3 cipher suites: server_tls13_ciphers: TLS_NONE",
        ),
    ] {
        let mut settings = good.clone();
        set(&mut settings, key, value);
        assert_eq!(refusal(&settings), expected);
    }
    let mut settings = good;
    set(&mut settings, "client_tls_protocols", "all");
    set(&mut settings, "client_tls_dheparams", "legacy");
    set(&mut settings, "client_tls_ecdhcurve", "none");
    set(&mut settings, "server_tls_ciphers", "AES256-SHA:HIGH");
    let tls = Tls::load(&settings).unwrap();
    let warnings: Vec<_> = tls.warnings().collect();
    assert_eq!(
        warnings,
        [
            "client_tls_protocols = all: TLS 1.0 and 1.1 are not spoken here, 1.2 and 1.3 are",
            "client_tls_ecdhcurve = none: keys are always exchanged over a curve",
            "client_tls_dheparams = legacy: keys are always exchanged over a curve",
            "server_tls_ciphers: there are no such ciphers here: AES256-SHA",
        ]
    );
}

#[test]
fn what_stays_the_same_is_kept_and_what_changed_is_new() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let mut settings = serving(&certificate);
    let ca = authority.certificate().cert.to_str().unwrap();
    set(&mut settings, "server_tls_ca_file", ca);
    set(&mut settings, "server_tls_sslmode", "verify-ca");
    let first = Tls::load(&settings).unwrap();
    assert!(first.renewed(&settings).unwrap().is_same(&first));

    // The file changed, though its name did not.
    authority.issue("localhost").replace(&certificate);
    let second = first.renewed(&settings).unwrap();
    assert!(!second.is_same(&first) && second.has_same_servers(&first));

    set(&mut settings, "server_tls_sslmode", "verify-full");
    let third = second.renewed(&settings).unwrap();
    assert!(!third.has_same_servers(&second));
    set(&mut settings, "server_tls_sslmode", "disable");
    assert!(third.renewed(&settings).unwrap().servers.is_none());
}

#[test]
fn no_binding_is_defined_for_what_ed25519_has_signed() {
    let sha256 = clients(&serving(&Authority::new("authority").issue("localhost")));
    assert_eq!(sha256.end_point().unwrap().len(), 32);
    let authority = Authority::new("authority");
    let sha384 = authority.request("localhost").digest("-sha384").issue();
    assert_eq!(clients(&serving(&sha384)).end_point().unwrap().len(), 48);
    let authority = Authority::with_key("authority", Key::Ed25519);
    assert!(
        clients(&serving(&authority.issue("localhost")))
            .end_point()
            .is_none()
    );
}
