//! Which certificates are believed.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use testkit::Key;

use super::*;
use crate::tls::der::{Parts, take};
use crate::tls::trust::{ClientVerifier, ServerVerifier, Trust};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn der(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&certificate.cert).unwrap()
}

fn now() -> UnixTime {
    UnixTime::now()
}

fn in_days(days: u32) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs()) + DAY * days)
}

fn days_ago(days: u32) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs()) - DAY * days)
}

/// Whom a verifier believes, and how the judgement is told.
struct Judge {
    authorities: Vec<CertificateDer<'static>>,
    /// When; else it is now.
    at: Option<UnixTime>,
    name: ServerName<'static>,
}

impl Judge {
    fn trusting(authorities: &[&Authority]) -> Self {
        let certificates = authorities
            .iter()
            .map(|authority| der(authority.certificate()));
        Self::believing(certificates.collect())
    }

    fn believing(authorities: Vec<CertificateDer<'static>>) -> Self {
        Self {
            authorities,
            at: None,
            name: localhost(),
        }
    }

    fn at(self, at: UnixTime) -> Self {
        let at = Some(at);
        Self { at, ..self }
    }

    fn named(self, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self { name, ..self }
    }

    /// As a server's certificate with verify-full and with verify-ca, and as a client's.
    fn says(&self, chain: &[CertificateDer<'static>]) -> [String; 3] {
        let provider = Arc::new(default_provider());
        let trust = || Trust::new(self.authorities.clone(), &provider).unwrap();
        let (leaf, rest) = chain.split_first().unwrap();
        let at = self.at.unwrap_or_else(now);
        let server = |names: bool| {
            let verifier = ServerVerifier::new(Some(trust()), names, &provider);
            let verdict = verifier.verify_server_cert(leaf, rest, &self.name, &[], at);
            told(verdict.map(drop))
        };
        let verifier = ClientVerifier::new(trust()).unwrap();
        let client = told(verifier.verify_client_cert(leaf, rest, at).map(drop));
        [server(true), server(false), client]
    }

    #[track_caller]
    fn believes(&self, certificate: &Certificate) {
        assert_eq!(self.says(&[der(certificate)]), ["yes", "yes", "yes"]);
    }

    #[track_caller]
    fn refuses(&self, certificate: &CertificateDer<'static>, why: &str) {
        for verdict in self.says(std::slice::from_ref(certificate)) {
            assert!(verdict.contains(why), "{verdict:?} is not {why:?}");
        }
    }
}

fn told(verdict: Result<(), rustls::Error>) -> String {
    match verdict {
        Ok(()) => "yes".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// A certificate of version 3 for localhost.
fn v3(authority: &Authority) -> Certificate {
    let request = authority.request("someone");
    request.extension("subjectAltName = DNS:localhost").issue()
}

#[test]
fn both_versions_are_believed_if_an_authority_signed_them() {
    for authority in [
        Authority::new("authority"),
        Authority::with_key("authority", Key::Ed25519),
    ] {
        let judge = Judge::trusting(&[&authority]);
        judge.believes(&authority.issue("localhost"));
        judge.believes(&authority.request("localhost").key(Key::RsaPkcs1).issue());
        judge.believes(&v3(&authority));
    }
}

#[test]
fn among_several_authorities_of_one_name_the_right_one_is_found() {
    let (old, new) = (Authority::new("authority"), Authority::new("authority"));
    let judge = Judge::trusting(&[&old, &new]);
    judge.believes(&old.issue("localhost"));
    judge.believes(&new.issue("localhost"));
}

#[test]
fn another_authority_of_the_same_name_is_not_believed() {
    let (ours, theirs) = (Authority::new("authority"), Authority::new("authority"));
    let judge = Judge::trusting(&[&ours]);
    judge.refuses(&der(&theirs.issue("localhost")), "BadSignature");
    judge.refuses(&der(&v3(&theirs)), "BadSignature");
    let stranger = Authority::new("stranger");
    judge.refuses(&der(&stranger.issue("localhost")), "UnknownIssuer");
    judge.refuses(&der(&v3(&stranger)), "UnknownIssuer");
}

#[test]
fn a_certificate_counts_only_while_it_is_in_force() {
    let authority = Authority::new("authority");
    for certificate in [authority.issue("localhost"), v3(&authority)] {
        let certificate = der(&certificate);
        let judge = |at| Judge::trusting(&[&authority]).at(at);
        judge(in_days(60)).refuses(&certificate, "Expired");
        judge(days_ago(1)).refuses(&certificate, "NotValidYet");
    }
}

#[test]
fn an_authority_that_has_run_out_vouches_for_nobody() {
    let authority = Authority::new("authority");
    let longer = authority.request("localhost").days(1000).issue();
    let judge = Judge::trusting(&[&authority]);
    judge.believes(&longer);
    judge.at(in_days(200)).refuses(&der(&longer), "Expired");
}

#[test]
fn verify_full_wants_the_servers_name_and_verify_ca_does_not() {
    let authority = Authority::new("authority");
    let judge = Judge::trusting(&[&authority]);
    for certificate in [
        authority.issue("elsewhere"),
        authority
            .request("localhost")
            .extension("subjectAltName = DNS:elsewhere")
            .issue(),
        authority
            .request("localhost")
            .subject("/CN=localhost")
            .issue(),
    ] {
        let [full, ca, client] = judge.says(&[der(&certificate)]);
        assert!(full.contains("NotValidForName"), "{full}");
        assert_eq!([ca, client], ["yes", "yes"]);
    }
}

#[test]
fn names_may_be_wildcards_and_addresses() {
    let authority = Authority::new("authority");
    let judge = |name: &str| Judge::trusting(&[&authority]).named(name);
    let san = |name: &str| {
        let request = authority.request("x");
        request
            .extension(&format!("subjectAltName = {name}"))
            .issue()
    };
    judge("db.example.com").believes(&authority.issue("*.example.com"));
    judge("db.example.com").believes(&san("DNS:*.example.com"));
    judge("127.0.0.1").believes(&authority.issue("127.0.0.1"));
    judge("127.0.0.1").believes(&san("IP:127.0.0.1"));
    judge("::1").believes(&authority.issue("::1"));
    for (name, certificate) in [
        ("127.0.0.2", authority.issue("127.0.0.1")),
        ("127.0.0.1", san("DNS:127.0.0.1")),
        ("a.db.example.com", authority.issue("*.example.com")),
        ("localhost", authority.issue("*")),
    ] {
        let [full, ..] = judge(name).says(&[der(&certificate)]);
        assert!(full.contains("NotValidForName"), "{name}: {full}");
    }
    assert!("127.0.0.1".parse::<IpAddr>().is_ok());
}

#[test]
fn what_was_changed_after_it_was_signed_is_refused() {
    let authority = Authority::new("authority");
    let judge = Judge::trusting(&[&authority]);
    for certificate in [authority.issue("localhost"), v3(&authority)] {
        let good = der(&certificate).to_vec();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        judge.refuses(&flipped.into(), "BadSignature");
    }
    let good = der(&authority.issue("l0calhost")).to_vec();
    let at = good.windows(9).position(|it| it == b"l0calhost").unwrap();
    let mut renamed = good;
    renamed[at + 1] = b'o';
    judge.refuses(&renamed.into(), "BadSignature");
}

#[test]
fn sha_1_is_no_signature() {
    let authority = Authority::new("authority");
    let judge = Judge::trusting(&[&authority]);
    let v1 = authority.request("localhost").digest("-sha1").issue();
    judge.refuses(&der(&v1), "UnsupportedSignatureAlgorithm");
    let v3 = authority.request("x").digest("-sha1");
    let v3 = v3.extension("subjectAltName = DNS:localhost").issue();
    judge.refuses(&der(&v3), "UnsupportedSignatureAlgorithm");
}

#[test]
fn whoever_is_no_authority_vouches_for_nobody() {
    let authority = Authority::new("authority");
    let judge = Judge::trusting(&[&authority]);
    for signer in [authority.issue("someone"), v3(&authority)] {
        let by_v1 = authority.request("localhost").signed_by(&signer).issue();
        let by_v3 = authority.request("x").signed_by(&signer);
        let by_v3 = by_v3.extension("subjectAltName = DNS:localhost").issue();
        for certificate in [by_v1, by_v3] {
            let chain = [der(&certificate), der(&signer)];
            for verdict in judge.says(&chain) {
                assert!(verdict.starts_with("Invalid"), "{verdict}");
            }
        }
    }
}

#[test]
fn an_authority_below_another_vouches_for_those_with_extensions_only() {
    let authority = Authority::new("authority");
    let below = authority.request("below").key(Key::RsaPkcs8);
    let below = below
        .extension("basicConstraints = critical, CA:TRUE")
        .issue();
    let leaf = authority.request("x").signed_by(&below);
    let leaf = leaf.extension("subjectAltName = DNS:localhost").issue();
    let judge = Judge::trusting(&[&authority]);
    assert_eq!(
        judge.says(&[der(&leaf), der(&below)]),
        ["yes", "yes", "yes"]
    );
    // Where it is named as an authority itself, those without are believed, too.
    let v1 = authority.request("localhost").signed_by(&below).issue();
    for verdict in judge.says(&[der(&v1), der(&below)]) {
        assert!(verdict.contains("UnknownIssuer"), "{verdict}");
    }
    Judge::believing(vec![der(&below)]).believes(&v1);
}

#[test]
fn an_authority_that_may_not_sign_or_only_for_some_is_none_for_those_without_extensions() {
    let authority = Authority::new("authority");
    for extensions in [
        [
            "basicConstraints = critical, CA:FALSE",
            "keyUsage = keyCertSign",
        ],
        [
            "basicConstraints = critical, CA:TRUE",
            "keyUsage = digitalSignature",
        ],
        [
            "basicConstraints = critical, CA:TRUE",
            "nameConstraints = permitted;DNS:localhost",
        ],
    ] {
        let signer = authority.request("signer");
        let signer = extensions
            .iter()
            .fold(signer, |signer, line| signer.extension(line));
        let signer = signer.issue();
        let leaf = authority.request("localhost").signed_by(&signer).issue();
        Judge::believing(vec![der(&signer)]).refuses(&der(&leaf), "UnknownIssuer");
    }
}

/// A value in DER.
fn value(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    let head = match len {
        [0, short @ ..0x80] => vec![tag, short],
        [0, len] => vec![tag, 0x81, len],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [head.as_slice(), body].concat()
}

const SEQUENCE: u8 = 0x30;

/// ECDSA with SHA-256, and with SHA-384.
const ECDSA_256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_384: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];

/// The certificate with another inside, signed anew by the authority.
fn signed_again(
    certificate: &Certificate,
    authority: &Authority,
    change: impl FnOnce(&mut Vec<u8>),
) -> CertificateDer<'static> {
    let old = der(certificate);
    let (signed, _) = take(SEQUENCE, Parts::of(&old).unwrap().signed).unwrap();
    let mut signed = signed.to_vec();
    change(&mut signed);
    let signed = value(SEQUENCE, &signed);
    let key = PrivateKeyDer::from_pem_file(&authority.certificate().key).unwrap();
    let key = default_provider()
        .key_provider
        .load_private_key(key)
        .unwrap();
    let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
    let signature = signer.unwrap().sign(&signed).unwrap();
    let signature = value(3, &[&[0], signature.as_slice()].concat());
    let parts = [signed, value(SEQUENCE, ECDSA_256), signature];
    value(SEQUENCE, &parts.concat()).into()
}

#[test]
fn a_certificate_of_version_1_has_the_form_of_version_1() {
    let authority = Authority::new("authority");
    let judge = Judge::trusting(&[&authority]);
    let certificate = authority.issue("localhost");
    let as_it_was = signed_again(&certificate, &authority, |_| {});
    assert_eq!(judge.says(&[as_it_was]), ["yes", "yes", "yes"]);
    // Extensions, and a subject's unique id.
    for more in [value(0xa3, &value(SEQUENCE, &[])), value(0x82, &[0, 1])] {
        let longer = signed_again(&certificate, &authority, |it| it.extend(more));
        judge.refuses(&longer, "BadEncoding");
    }
    // The signed part names another algorithm than the one that was used.
    let other = signed_again(&certificate, &authority, |signed| {
        let at = signed
            .windows(ECDSA_256.len())
            .position(|it| it == ECDSA_256)
            .unwrap();
        signed[at..at + ECDSA_384.len()].copy_from_slice(ECDSA_384);
    });
    judge.refuses(&other, "BadEncoding");
    // A version that says it is the first.
    let told = signed_again(&certificate, &authority, |signed| {
        signed.splice(0..0, value(0xa0, &[2, 1, 0]));
    });
    judge.refuses(&told, "Invalid");
}

#[test]
fn a_certificate_that_is_its_own_authority_is_believed_while_it_is_in_force() {
    // As PostgreSQL's manual makes its first one.
    let own = Authority::new("localhost");
    let judge = Judge::trusting(&[&own]);
    judge.believes(own.certificate());
    let certificate = der(own.certificate());
    let [full, ca, _] = judge
        .named("elsewhere")
        .says(std::slice::from_ref(&certificate));
    assert!(
        full.contains("NotValidForName") && ca == "yes",
        "{full} {ca}"
    );
    let judge = |at| Judge::trusting(&[&own]).at(at);
    judge(in_days(200)).refuses(&certificate, "Expired");
    judge(days_ago(1)).refuses(&certificate, "NotValidYet");
    let other = Authority::new("localhost");
    let judge = Judge::trusting(&[&other]);
    judge.refuses(&certificate, "Invalid");
}

#[test]
fn certificates_for_another_purpose_are_refused() {
    let authority = Authority::new("authority");
    let judge = Judge::trusting(&[&authority]);
    let request = |usage: &str| {
        let request = authority
            .request("x")
            .extension("subjectAltName = DNS:localhost");
        request
            .extension(&format!("extendedKeyUsage = {usage}"))
            .issue()
    };
    let [full, ca, client] = judge.says(&[der(&request("serverAuth"))]);
    assert_eq!([full, ca], ["yes", "yes"]);
    assert!(client.contains("InvalidPurpose"), "{client}");
    let [full, _, client] = judge.says(&[der(&request("clientAuth"))]);
    assert!(full.contains("InvalidPurpose"), "{full}");
    assert_eq!(client, "yes");
}

#[test]
fn no_bytes_pass_for_a_certificate() {
    let authority = Authority::new("authority");
    let judge = Judge::trusting(&[&authority]);
    let good = der(&authority.issue("localhost")).to_vec();
    for len in [0, 1, 2, 10, good.len() - 1] {
        judge.refuses(&good[..len].to_vec().into(), "Invalid");
    }
    let longer = [good.as_slice(), &[0]].concat();
    judge.refuses(&longer.into(), "Invalid");
    // Any single byte that changes breaks the signature, or the form.
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x20;
        for verdict in judge.says(&[changed.into()]) {
            assert!(verdict.starts_with("Invalid"), "byte {at}: {verdict}");
        }
    }
}

#[test]
fn who_shows_nothing_is_not_let_in_where_certificates_count() {
    let authority = Authority::new("authority");
    let mut settings = serving(&authority.issue("localhost"));
    let ca = authority.certificate().cert.to_str().unwrap();
    set(&mut settings, "client_tls_ca_file", ca);
    set(&mut settings, "client_tls_sslmode", "verify-full");
    for protocol in ["tlsv1.2", "tlsv1.3"] {
        set(&mut settings, "client_tls_protocols", protocol);
        let error = HandshakeError::Tls(Pair::of(&settings).shake_hands().unwrap_err());
        assert_eq!(
            error.to_string(),
            "handshake failed: peer did not return a certificate"
        );
    }
}

#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    let authority = Authority::new("authority");
    let ca = authority.certificate().cert.to_str().unwrap();
    for protocol in ["tlsv1.2", "tlsv1.3"] {
        let server = authority.issue("localhost");
        let mut settings = serving(&server);
        set(&mut settings, "client_tls_protocols", protocol);
        set(&mut settings, "server_tls_ca_file", ca);
        set(&mut settings, "server_tls_sslmode", "verify-full");
        let clients = clients(&settings);
        let mut pair = Pair::between(&clients, &servers(&settings));
        pair.shake_hands().unwrap();
        // Someone shows the same certificate, and signs with another key.
        let thief = Pair::of_thief(&server, &authority.issue("localhost"), &settings);
        let error = thief.unwrap_err();
        assert!(
            error.to_string().contains("BadSignature"),
            "{protocol}: {error}"
        );
    }
}

impl Pair {
    /// A handshake with who shows one certificate and has the key of another.
    fn of_thief(
        shown: &Certificate,
        owned: &Certificate,
        settings: &Settings,
    ) -> Result<(), rustls::Error> {
        use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
        use rustls::sign::CertifiedKey;

        #[derive(Debug)]
        struct Thief(Arc<CertifiedKey>);
        impl ResolvesServerCert for Thief {
            fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
                Some(self.0.clone())
            }
        }

        let key = PrivateKeyDer::from_pem_file(&owned.key).unwrap();
        let key = default_provider().key_provider.load_private_key(key)?;
        let thief = Thief(Arc::new(CertifiedKey::new(vec![der(shown)], key)));
        let version = if settings.client_tls_protocols == "tlsv1.2" {
            &rustls::version::TLS12
        } else {
            &rustls::version::TLS13
        };
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(thief));
        let accepted = UnbufferedServerConnection::new(Arc::new(config))?;
        let connected = servers(settings).session(localhost()).unwrap();
        let session = crate::tls::records::Session::Client(accepted);
        let mut pair = Self {
            client: Records::new(connected, Vec::new()),
            server: Records::new(session, Vec::new()),
        };
        pair.shake_hands()
    }
}

#[test]
fn the_names_of_a_client_are_read_from_its_certificate() {
    let authority = Authority::new("authority");
    let names = |certificate: &Certificate| PeerCertificate::read(&der(certificate));
    let v1 = names(&authority.issue("alice"));
    assert_eq!(
        (v1.common_name.as_deref(), v1.dns_names.len()),
        (Some("alice"), 0)
    );
    let v3 = authority
        .request("alice")
        .extension("subjectAltName = DNS:bob, DNS:carol");
    let v3 = names(&v3.issue());
    assert_eq!(v3.common_name.as_deref(), Some("alice"));
    assert_eq!(v3.dns_names, ["bob", "carol"]);
    let two = names(&authority.request("alice").subject("/CN=bob").issue());
    assert_eq!(two.common_name, None, "it is not clear whose it is");
    let file = fs::read(&authority.issue("x").cert).unwrap();
    assert!(
        file.starts_with(b"Certificate:"),
        "text before the PEM block"
    );
}
