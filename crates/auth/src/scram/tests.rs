//! SCRAM against the RFC, against another implementation, and against liars.

mod binding;

use postgres_protocol::authentication::sasl;
use proptest::prelude::*;

use super::*;
use crate::random::Nonce;

const SALT: &[u8] = b"sixteen bytes...";

fn verifier(password: &str) -> Verifier {
    Verifier::from_password(&Password::new(password), 2, SALT)
}

fn server_nonce() -> Nonce {
    Nonce::from_bytes([1; Nonce::LEN])
}

fn begin(client_first: &str) -> Result<(ServerExchange, String), ScramError> {
    ServerExchange::begin(
        client_first.as_bytes(),
        &server_nonce(),
        SALT,
        2,
        &ChannelBinding::None,
    )
}

/// A client of ours that has been challenged by a server of ours.
fn challenged() -> (ServerExchange, ServerChallenge) {
    let nonce = Nonce::from_bytes([2; Nonce::LEN]);
    let (client, first) = ClientExchange::begin(nonce, ChannelBinding::None);
    let (server, answer) = begin(&first).unwrap();
    (server, client.challenged(answer.as_bytes()).unwrap())
}

fn keys(password: &str) -> ScramKeys {
    ScramKeys::derive(&Password::new(password), SALT, 2)
}

fn client_reads(server_first: &str) -> Result<ServerChallenge, ScramError> {
    let nonce = Nonce::from_bytes([0; Nonce::LEN]);
    ClientExchange::begin(nonce, ChannelBinding::None)
        .0
        .challenged(server_first.as_bytes())
}

/// What our client's nonce in [`client_reads`] looks like.
const CLIENT_NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAAAA";

mod rfc_7677 {
    //! The example of section 3: user `user`, password `pencil`.

    use super::*;

    const CLIENT_BARE: &str = "n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn salt() -> Vec<u8> {
        decode_salt("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap()
    }

    fn signed() -> (&'static str, String) {
        let (without_proof, _) = CLIENT_FINAL.rsplit_once(",p=").unwrap();
        (
            without_proof,
            auth_message(CLIENT_BARE, SERVER_FIRST, without_proof),
        )
    }

    #[test]
    fn our_client_proves_itself_as_the_example_does() {
        let (without_proof, auth_message) = signed();
        let challenge = ServerChallenge {
            salt: salt(),
            iterations: 4096,
            without_proof: without_proof.to_owned(),
            auth_message,
        };
        let keys = ScramKeys::derive(&Password::new("pencil"), &salt(), 4096);
        let (awaited, client_final) = challenge.answer(&keys);
        assert_eq!(client_final, CLIENT_FINAL);
        assert_eq!(awaited.verify(SERVER_FINAL.as_bytes()), Ok(()));
    }

    #[test]
    fn our_server_accepts_the_example_and_signs_as_it_does() {
        let (exchange, server_first) = ServerExchange::begin(
            format!("n,,{CLIENT_BARE}").as_bytes(),
            &Nonce::from_text("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
            &salt(),
            4096,
            &ChannelBinding::None,
        )
        .unwrap();
        assert_eq!(server_first, SERVER_FIRST);
        let proof = exchange.proof(CLIENT_FINAL.as_bytes()).unwrap();
        let verifier = Verifier::from_password(&Password::new("pencil"), 4096, &salt());
        assert_eq!(proof.check(&verifier).unwrap().server_final, SERVER_FINAL);
    }

    #[test]
    fn the_verifier_is_the_one_postgresql_stores() {
        let verifier = Verifier::from_password(&Password::new("pencil"), 4096, &salt());
        assert_eq!(
            *verifier.encode(),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }
}

#[test]
fn both_of_our_sides_agree_and_the_client_s_keys_come_out() {
    let (server, challenge) = challenged();
    assert_eq!((challenge.salt(), challenge.iterations()), (SALT, 2));

    let (awaited, client_final) = challenge.answer(&keys("secret"));
    let proof = server.proof(client_final.as_bytes()).unwrap();
    let accepted = proof.check(&verifier("secret")).unwrap();
    assert_eq!(awaited.verify(accepted.server_final.as_bytes()), Ok(()));
    assert_eq!(accepted.keys.client_key(), keys("secret").client_key());
    assert_eq!(accepted.keys.server_key(), keys("secret").server_key());
}

#[test]
fn a_wrong_password_proves_nothing() {
    let (server, challenge) = challenged();
    let (_, client_final) = challenge.answer(&keys("guess"));
    let proof = server.proof(client_final.as_bytes()).unwrap();
    assert_eq!(
        proof.check(&verifier("secret")).unwrap_err(),
        ScramError::Proof
    );
}

#[test]
fn a_server_with_another_key_is_found_out() {
    let (_, challenge) = challenged();
    let (awaited, _) = challenge.answer(&keys("secret"));
    let forged = format!("v={}", encode(&[0; KEY_LEN]));
    assert_eq!(
        awaited.verify(forged.as_bytes()),
        Err(ScramError::Signature)
    );
}

#[test]
fn a_server_final_that_is_no_signature_is_refused() {
    let (_, challenge) = challenged();
    let (awaited, _) = challenge.answer(&keys("secret"));
    assert_eq!(
        awaited.verify(b"e=other-error"),
        Err(ScramError::Rejected("other-error".to_owned()))
    );
    for bad in ["", "v", "v=", "v=AAAA", "v=*", "x=1", "r=1", "m=1,v=AAAA"] {
        assert!(awaited.verify(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(awaited.verify(&[0xff]).is_err());
}

#[test]
fn a_client_first_that_breaks_the_rules_is_refused() {
    let error = |text: &str| begin(text).err().unwrap();
    assert_eq!(
        error("n,a=admin,n=,r=abc"),
        ScramError::AuthorizationIdentity
    );
    assert_eq!(error("n,,m=ext,n=,r=abc"), ScramError::Extension);
    assert_eq!(error("n,,n=,r=abc,m=ext"), ScramError::Extension);
    assert_eq!(error("n,,n=,r="), ScramError::Nonce);
    assert_eq!(error("n,,n=,r=a b"), ScramError::Nonce);
    assert_eq!(error("n,,n=,r=é"), ScramError::Nonce);
    let long = "x".repeat(NONCE_LEN_MAX);
    assert_eq!(error(&format!("n,,n=,r={long}")), ScramError::Nonce);
    let endless = "x".repeat(MESSAGE_LEN_MAX);
    assert_eq!(
        error(&format!("n,,n=,r=a,x={endless}")),
        ScramError::Malformed("too long")
    );
    for malformed in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,r=abc",
        "n,,r=abc,n=",
        "n,,n=,n=,r=abc",
        "n,,n=,r=abc,r=abc",
        "n,,n=,r=abc,p=x",
        "n,,n=,r=abc,x=1,x=2",
        "n,,n=,r=abc,",
        "n,,n=,r=abc,1=2",
        "n,,n=,r=abc,xy=2",
        "n,,n=,r=abc,x",
        "n,,nn=,r=abc",
    ] {
        assert!(
            matches!(error(malformed), ScramError::Malformed(_)),
            "{malformed}"
        );
    }
}

#[test]
fn optional_extensions_are_ignored_but_signed() {
    let (_, server_first) = begin("n,,n=*,r=abc,x=1,Y=2").unwrap();
    assert!(server_first.starts_with("r=abc"));

    let (server, challenge) = challenged();
    let (_, client_final) = challenge.answer(&keys("secret"));
    let with_extension = client_final.replace(",p=", ",x=1,p=");
    let proof = server.proof(with_extension.as_bytes()).unwrap();
    assert_eq!(
        proof.check(&verifier("secret")).unwrap_err(),
        ScramError::Proof
    );
}

#[test]
fn a_client_final_that_was_tampered_with_is_refused() {
    let refused = |change: &dyn Fn(&str) -> String| {
        let (server, challenge) = challenged();
        let (_, client_final) = challenge.answer(&keys("secret"));
        let changed = change(&client_final);
        assert_ne!(changed, client_final);
        server
            .proof(changed.as_bytes())
            .and_then(|proof| proof.check(&verifier("secret")))
            .unwrap_err()
    };
    // The header claimed at first was `n`; `eSws` is `y,,`.
    assert_eq!(
        refused(&|text| text.replace("c=biws", "c=eSws")),
        ScramError::ChannelBinding
    );
    assert_eq!(
        refused(&|text| text.replace("r=AgI", "r=AgJ")),
        ScramError::Nonce
    );
    assert_eq!(
        refused(&|text| text.replace(",p=", "x,p=")),
        ScramError::Nonce
    );
    let (_, challenge) = challenged();
    let (_, other) = challenge.answer(&keys("guess"));
    let (_, other_proof) = other.rsplit_once(",p=").unwrap();
    assert_eq!(
        refused(&|text| format!("{},p={other_proof}", text.rsplit_once(",p=").unwrap().0)),
        ScramError::Proof
    );
    for change in [
        &(|text: &str| text.rsplit_once(",p=").unwrap().0.to_owned()) as &dyn Fn(&str) -> String,
        &|text| text.replace(",p=", ",p=A"),
        &|text| format!("{text},x=1"),
        &|text| format!("{text},p=AAAA"),
        &|text| text.replace(",r=", ",x=1,r="),
        &|text| text.replace(",p=", ",r=1,p="),
        &|text| text.replace(",p=", ",v=1,p="),
        &|text| text.replace("c=", "d="),
        &|text| text.replace("c=biws,", ""),
        &|text| text[1..].to_owned(),
        &|_| String::new(),
        &|_| ",p=".to_owned(),
    ] {
        assert!(matches!(refused(change), ScramError::Malformed(_)));
    }
    assert_eq!(
        refused(&|text| text.replace(",p=", ",m=1,p=")),
        ScramError::Extension
    );
}

#[test]
fn a_client_takes_only_a_nonce_that_extends_its_own() {
    let first = |nonce: &str| client_reads(&format!("r={nonce},s=c2FsdA==,i=4096")).err();
    assert_eq!(first(&format!("{CLIENT_NONCE}x")), None);
    for bad in [
        CLIENT_NONCE.to_owned(),
        format!("x{CLIENT_NONCE}"),
        "other".to_owned(),
        String::new(),
        format!("{CLIENT_NONCE} x"),
        format!("{CLIENT_NONCE}{}", "x".repeat(NONCE_LEN_MAX)),
    ] {
        assert_eq!(first(&bad), Some(ScramError::Nonce), "{bad}");
    }
}

#[test]
fn a_server_cannot_make_a_client_work_for_long() {
    let first = |count: &str| client_reads(&format!("r={CLIENT_NONCE}x,s=c2FsdA==,i={count}"));
    assert_eq!(first("1").unwrap().iterations(), 1);
    assert_eq!(first("1000000").unwrap().iterations(), ITERATIONS_MAX);
    assert_eq!(first("0").unwrap_err(), ScramError::Iterations(0));
    assert_eq!(
        first("1000001").unwrap_err(),
        ScramError::Iterations(1_000_001)
    );
    assert_eq!(
        first("99999999999999999999").unwrap_err(),
        ScramError::Iterations(u64::MAX)
    );
    for bad in ["", "-1", "+1", " 1", "1x", "1.0"] {
        assert!(
            matches!(first(bad).unwrap_err(), ScramError::Malformed(_)),
            "{bad}"
        );
    }
}

#[test]
fn a_server_first_that_breaks_the_rules_is_refused() {
    let nonce = format!("r={CLIENT_NONCE}x");
    let long_salt = encode(&[0; SALT_LEN_MAX + 1]);
    for bad in [
        String::new(),
        nonce.clone(),
        format!("{nonce},s=c2FsdA=="),
        format!("{nonce},i=1,s=c2FsdA=="),
        format!("{nonce},s=,i=1"),
        format!("{nonce},s=c2FsdA,i=1"),
        format!("{nonce},s=c2Fs*A==,i=1"),
        format!("{nonce},s={long_salt},i=1"),
        format!("{nonce},s=c2FsdA==,i=1,i=1"),
        format!("{nonce},s=c2FsdA==,s=c2FsdA==,i=1"),
        "e=other-error".to_owned(),
    ] {
        assert!(
            matches!(client_reads(&bad), Err(ScramError::Malformed(_))),
            "{bad}"
        );
    }
    for bad in [
        format!("m=x,{nonce},s=c2FsdA==,i=1"),
        format!("{nonce},s=c2FsdA==,i=1,m=x"),
    ] {
        assert_eq!(client_reads(&bad).unwrap_err(), ScramError::Extension);
    }
    assert!(client_reads(&format!("{nonce},s=c2FsdA==,i=1,x=ext")).is_ok());
}

#[test]
fn a_verifier_reads_back_as_it_was_written() {
    let verifier = verifier("secret");
    assert!(Verifier::parse(verifier.encode().as_bytes()).unwrap() == verifier);
    assert!(verifier != self::verifier("guess"));
    assert_eq!(format!("{verifier:?}"), "Verifier(…)");
}

#[test]
fn a_verifier_with_anything_amiss_is_none() {
    let key = encode(&[0; KEY_LEN]);
    let salt = encode(SALT);
    let good = format!("SCRAM-SHA-256$4096:{salt}${key}:{key}");
    assert!(Verifier::parse(good.as_bytes()).is_some());
    let largest = good.replace("4096", "2147483647");
    assert!(Verifier::parse(largest.as_bytes()).is_some());
    for bad in [
        good.replace("4096", "0"),
        good.replace("4096", "-1"),
        good.replace("4096", "+1"),
        good.replace("4096", ""),
        good.replace("4096", "2147483648"),
        good.replace(&salt, ""),
        good.replace(&salt, "c2FsdA"),
        good.replace(&salt, &encode(&[0; SALT_LEN_MAX + 1])),
        good.replace(&key, &encode(&[0; KEY_LEN - 1])),
        good.replace(&key, &encode(&[0; KEY_LEN + 1])),
        good.replace("SHA-256", "SHA-1"),
        format!("{good}$"),
        format!("{good}:"),
        format!("{good} "),
        format!(" {good}"),
        good[..good.len() - 1].to_owned(),
    ] {
        assert!(Verifier::parse(bad.as_bytes()).is_none(), "{bad}");
    }
}

/// Another implementation's client logs in to our server.
fn their_client_logs_in(password: &[u8], binding: sasl::ChannelBinding) {
    let mut client = sasl::ScramSha256::new(password, binding);
    let verifier = Verifier::from_password(&Password::new(password), 2, SALT);
    let (server, server_first) = begin(std::str::from_utf8(client.message()).unwrap()).unwrap();
    client.update(server_first.as_bytes()).unwrap();
    let accepted = server
        .proof(client.message())
        .unwrap()
        .check(&verifier)
        .unwrap();
    client.finish(accepted.server_final.as_bytes()).unwrap();
}

#[test]
fn another_implementation_logs_in_to_ours() {
    their_client_logs_in(b"secret", sasl::ChannelBinding::unsupported());
    their_client_logs_in(b"secret", sasl::ChannelBinding::unrequested());
    their_client_logs_in(
        "grüße\u{a0}\u{2168}".as_bytes(),
        sasl::ChannelBinding::unsupported(),
    );
    their_client_logs_in(b"\xff\xfe", sasl::ChannelBinding::unsupported());
}

#[test]
fn another_implementation_stores_verifiers_that_we_read() {
    let stored = postgres_protocol::password::scram_sha_256("pässword".as_bytes());
    let verifier = Verifier::parse(stored.as_bytes()).unwrap();
    let ours = Verifier::from_password(
        &Password::new("pässword"),
        verifier.iterations(),
        verifier.salt(),
    );
    assert!(ours == verifier);
}

/// Text that is nearly SCRAM: the more of it parses, the deeper the readers are tried.
fn nearly_scram() -> impl Strategy<Value = String> {
    let attribute = prop_oneof![
        "[nrcspivmea]=[A-Za-z0-9+/=]{0,40}",
        Just("c=biws".to_owned()),
        Just("r=AgICAgICAgICAgICAgICAgICAQEBAQEBAQEBAQEBAQEBAQEB".to_owned()),
        Just(format!("r={CLIENT_NONCE}x")),
        Just("s=c2FsdA==".to_owned()),
        "i=[0-9]{1,8}",
        "\\PC{0,6}",
    ];
    prop::collection::vec(attribute, 0..7).prop_map(|attributes| attributes.join(","))
}

proptest! {
    #[test]
    fn any_verifier_reads_back(
        iterations in 1..=2_147_483_647_u32,
        salt in prop::collection::vec(any::<u8>(), 1..=SALT_LEN_MAX),
        stored_key in any::<[u8; KEY_LEN]>(),
        server_key in any::<[u8; KEY_LEN]>(),
    ) {
        let verifier = Verifier::new(iterations, &salt, stored_key, server_key);
        let read = Verifier::parse(verifier.encode().as_bytes());
        prop_assert!(read == Some(verifier));
    }

    #[test]
    fn another_implementation_logs_in_with_any_password(password in any::<Vec<u8>>()) {
        their_client_logs_in(&password, sasl::ChannelBinding::unsupported());
    }

    #[test]
    fn any_single_change_to_a_client_final_is_refused(at in any::<usize>(), by in 1..=255_u8) {
        let (server, challenge) = challenged();
        let (_, client_final) = challenge.answer(&keys("secret"));
        let mut changed = client_final.into_bytes();
        let at = at % changed.len();
        changed[at] ^= by;
        let checked = server
            .proof(&changed)
            .and_then(|proof| proof.check(&verifier("secret")));
        prop_assert!(checked.is_err());
    }

    #[test]
    fn nothing_that_resembles_scram_makes_us_panic(text in nearly_scram(), header in "[nyp]?,{0,2}") {
        let _ = begin(&format!("{header}{text}"));
        let (server, challenge) = challenged();
        let _ = server.proof(text.as_bytes());
        let (awaited, _) = challenge.answer(&keys("secret"));
        let _ = awaited.verify(text.as_bytes());
        let _ = client_reads(&text);
    }

    #[test]
    fn no_bytes_make_us_panic(bytes in any::<Vec<u8>>()) {
        let (server, challenge) = challenged();
        let _ = server.proof(&bytes);
        let (awaited, _) = challenge.answer(&keys("secret"));
        let _ = awaited.verify(&bytes);
        let nonce = Nonce::from_bytes([0; Nonce::LEN]);
        let _ = ClientExchange::begin(nonce, ChannelBinding::None).0.challenged(&bytes);
        let _ = ServerExchange::begin(&bytes, &server_nonce(), SALT, 2, &ChannelBinding::None);
        let _ = Verifier::parse(&bytes);
    }
}
