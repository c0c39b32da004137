//! Certificates that were changed, signed badly, stolen, or are none.

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::judge::{Judge, der, v3};
use super::*;
use crate::tls::der::{Parts, take};

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
