//! Logins of good, bad and unknown clients, as transcripts.

mod binding;

use postgres_protocol::authentication::{md5_hash, sasl};
use proptest::prelude::*;
use wire::authentication::{put_password, put_sasl_response};

use super::*;

const SALT: [u8; 4] = *b"salt";
const ITERATIONS: u32 = 2;

fn salt_key() -> SaltKey {
    SaltKey::from_bytes([9; 32])
}

fn entropy() -> Entropy {
    Entropy {
        md5_salt: SALT,
        nonce: Nonce::from_bytes([1; Nonce::LEN]),
    }
}

fn secret(text: &str) -> Known {
    Known::Secret {
        secret: Secret::parse(text.as_bytes()),
        cached: None,
    }
}

fn verifier_text(password: &str) -> String {
    Verifier::from_password(&Password::new(password), ITERATIONS, b"sixteen bytes...")
        .encode()
        .to_string()
}

fn md5_text(password: &str) -> String {
    postgres_protocol::password::md5(password.as_bytes(), "alice")
}

/// A login of alice: what she was asked for first, and the way to answer.
struct Login {
    acceptor: Acceptor,
    step: Step,
}

impl Login {
    fn of(challenge: Challenge, known: Known) -> Self {
        Self::as_user("alice", challenge, known)
    }

    fn as_user(user: &str, challenge: Challenge, known: Known) -> Self {
        Self::over(None, user, challenge, known)
    }

    /// Over a connection that may be bound to this.
    fn over(end_point: Option<&Arc<[u8]>>, user: &str, challenge: Challenge, known: Known) -> Self {
        let salt_key = salt_key();
        let policy = ScramPolicy {
            iterations: ITERATIONS,
            salt_key: &salt_key,
            end_point,
        };
        let (acceptor, step) = Acceptor::start(challenge, user, known, policy, entropy());
        Self { acceptor, step }
    }

    fn asked(&self) -> &AuthRequest {
        match &self.step {
            Step::Send(request) => request,
            step => panic!("{step:?}"),
        }
    }

    fn types(&mut self, password: &[u8]) -> Step {
        self.acceptor.on(&[password, b"\0"].concat())
    }

    /// Plays SCRAM with another implementation's client, up to the end or a job.
    fn plays_scram(&mut self, password: &[u8]) -> Scram {
        assert_eq!(
            *self.asked(),
            AuthRequest::Sasl {
                mechanisms: vec!["SCRAM-SHA-256".into()].into()
            }
        );
        let mut client = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
        let server_first = continued(self.acceptor.on(&initial(MECHANISM, client.message())));
        client.update(&server_first).unwrap();
        let step = self.acceptor.on(client.message());
        Scram {
            client,
            server_first: String::from_utf8(server_first).unwrap(),
            step,
        }
    }
}

struct Scram {
    client: sasl::ScramSha256,
    server_first: String,
    step: Step,
}

fn initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    SaslInitialResponse {
        mechanism,
        response: Some(data),
    }
    .encode(&mut message);
    message.split_off(5)
}

fn continued(step: Step) -> Vec<u8> {
    match step {
        Step::Send(AuthRequest::SaslContinue(data)) => data,
        step => panic!("{step:?}"),
    }
}

fn refused(step: Step) -> (Refusal, &'static str) {
    match step {
        Step::Refuse(refusal) => {
            let text = refusal.for_client();
            (refusal, text)
        }
        step => panic!("{step:?}"),
    }
}

fn admitted(step: Step) -> (Option<AuthRequest>, Identity) {
    match step {
        Step::Done {
            last_words,
            identity,
        } => (last_words, identity),
        step => panic!("{step:?}"),
    }
}

fn job(step: Step) -> Job {
    match step {
        Step::Derive(job) => job,
        step => panic!("{step:?}"),
    }
}

/// The client is in without having been sent a SASLFinal, with this password typed.
fn admitted_with_password(step: Step, password: &str) {
    let (last_words, identity) = admitted(step);
    assert_eq!(last_words, None);
    assert_eq!(identity.password, Some(Password::new(password)));
    assert!(identity.scram_keys.is_none());
}

const WRONG: &str = "password authentication failed";
const SASL_WRONG: &str = "SASL authentication failed";

#[test]
fn trust_lets_in_everyone_who_is_known() {
    for known in [secret("x"), secret(""), secret(&verifier_text("x"))] {
        let (last_words, identity) = admitted(Login::of(Challenge::Trust, known).step);
        assert_eq!(last_words, None);
        assert!(identity.password.is_none() && identity.scram_keys.is_none());
    }
    assert_eq!(
        refused(Login::of(Challenge::Trust, Known::Nobody).step),
        (Refusal::Trust, "\"trust\" authentication failed")
    );
}

#[test]
fn plain_accepts_any_kind_of_stored_secret() {
    for stored in ["secret".to_owned(), md5_text("secret")] {
        let mut login = Login::of(Challenge::Plain, secret(&stored));
        assert_eq!(*login.asked(), AuthRequest::CleartextPassword);
        admitted_with_password(login.types(b"secret"), "secret");

        let mut login = Login::of(Challenge::Plain, secret(&stored));
        assert_eq!(
            refused(login.types(b"guess")),
            (Refusal::WrongPassword, WRONG)
        );
    }
}

#[test]
fn plain_against_a_stored_verifier_derives_keys_elsewhere() {
    let mut login = Login::of(Challenge::Plain, secret(&verifier_text("secret")));
    let derived = job(login.types(b"secret")).run();
    admitted_with_password(login.acceptor.derived(&derived), "secret");

    let mut login = Login::of(Challenge::Plain, secret(&verifier_text("secret")));
    let derived = job(login.types(b"guess")).run();
    assert_eq!(
        refused(login.acceptor.derived(&derived)),
        (Refusal::WrongPassword, WRONG)
    );
}

#[test]
fn a_stored_verifier_cannot_keep_us_busy() {
    let costly = verifier_text("secret").replace("$2:", "$1000001:");
    let mut login = Login::of(Challenge::Plain, secret(&costly));
    assert_eq!(
        refused(login.types(b"secret")),
        (Refusal::TooManyIterations(1_000_001), WRONG)
    );
}

#[test]
fn md5_accepts_the_right_answer_only() {
    for stored in ["secret".to_owned(), md5_text("secret")] {
        let mut login = Login::of(Challenge::Md5, secret(&stored));
        assert_eq!(*login.asked(), AuthRequest::Md5Password { salt: SALT });
        let answer = md5_hash(b"alice", b"secret", SALT);
        let (last_words, identity) = admitted(login.types(answer.as_bytes()));
        assert_eq!(last_words, None);
        assert!(identity.password.is_none() && identity.scram_keys.is_none());

        for wrong in [
            md5_hash(b"alice", b"guess", SALT),
            md5_hash(b"bob", b"secret", SALT),
            md5_hash(b"alice", b"secret", *b"SALT"),
            md5_text("secret"),
            "secret".to_owned(),
        ] {
            let mut login = Login::of(Challenge::Md5, secret(&stored));
            assert_eq!(
                refused(login.types(wrong.as_bytes())),
                (Refusal::WrongPassword, WRONG)
            );
        }
    }
}

#[test]
fn md5_with_a_stored_verifier_becomes_scram() {
    let mut login = Login::of(Challenge::Md5, secret(&verifier_text("secret")));
    let mut scram = login.plays_scram(b"secret");
    let (last_words, identity) = admitted(scram.step);
    let Some(AuthRequest::SaslFinal(server_final)) = last_words else {
        panic!("no SASLFinal")
    };
    scram.client.finish(&server_final).unwrap();
    assert!(identity.scram_keys.is_some());
}

#[test]
fn scram_against_a_stored_verifier_yields_the_client_s_keys() {
    let stored = verifier_text("secret");
    let mut login = Login::of(Challenge::Scram, secret(&stored));
    let mut scram = login.plays_scram(b"secret");
    assert!(
        scram
            .server_first
            .ends_with(",s=c2l4dGVlbiBieXRlcy4uLg==,i=2")
    );
    let (last_words, identity) = admitted(scram.step);
    let Some(AuthRequest::SaslFinal(server_final)) = last_words else {
        panic!("no SASLFinal")
    };
    scram.client.finish(&server_final).unwrap();
    assert!(identity.password.is_none());
    let keys = identity.scram_keys.unwrap();
    assert_eq!(
        *keys.verifier(b"sixteen bytes...", ITERATIONS).encode(),
        stored
    );

    let mut login = Login::of(Challenge::Scram, secret(&stored));
    assert_eq!(
        refused(login.plays_scram(b"guess").step),
        (Refusal::Scram(ScramError::Proof), SASL_WRONG)
    );
}

#[test]
fn scram_against_a_plain_secret_derives_once_and_then_uses_what_was_kept() {
    let mut login = Login::of(Challenge::Scram, secret("secret"));
    let mut scram = login.plays_scram(b"secret");
    let derived = Arc::new(job(scram.step).run());
    let (last_words, identity) = admitted(login.acceptor.derived(&derived));
    let Some(AuthRequest::SaslFinal(server_final)) = last_words else {
        panic!("no SASLFinal")
    };
    scram.client.finish(&server_final).unwrap();
    // Keys under a salt of ours would log in to no server.
    assert!(identity.scram_keys.is_none());

    let cached = || Known::Secret {
        secret: Secret::parse(b"secret"),
        cached: Some(derived.clone()),
    };
    let mut login = Login::of(Challenge::Scram, cached());
    let again = login.plays_scram(b"secret");
    let (_, challenge) = again.server_first.split_once(",s=").unwrap();
    assert!(scram.server_first.ends_with(challenge));
    let (last_words, identity) = admitted(again.step);
    assert!(matches!(last_words, Some(AuthRequest::SaslFinal(_))));
    assert!(identity.scram_keys.is_none());

    let mut login = Login::of(Challenge::Scram, cached());
    assert_eq!(
        refused(login.plays_scram(b"guess").step),
        (Refusal::Scram(ScramError::Proof), SASL_WRONG)
    );
}

#[test]
fn a_wrong_proof_against_a_derived_verifier_is_refused() {
    let mut login = Login::of(Challenge::Scram, secret("secret"));
    let derived = job(login.plays_scram(b"guess").step).run();
    assert_eq!(
        refused(login.acceptor.derived(&derived)),
        (Refusal::Scram(ScramError::Proof), SASL_WRONG)
    );
}

#[test]
fn keys_kept_from_an_old_password_are_not_used() {
    let mut old = Login::of(Challenge::Scram, secret("old"));
    let derived = Arc::new(job(old.plays_scram(b"old").step).run());
    let mut login = Login::of(
        Challenge::Scram,
        Known::Secret {
            secret: Secret::parse(b"new"),
            cached: Some(derived.clone()),
        },
    );
    let scram = login.plays_scram(b"old");
    assert!(matches!(scram.step, Step::Derive(_)));
    assert_eq!(
        refused(login.acceptor.derived(&derived)).0,
        Refusal::OutOfTurn
    );
}

#[test]
fn scram_with_a_stored_md5_hash_fails_at_the_end() {
    let mut login = Login::of(Challenge::Scram, secret(&md5_text("secret")));
    assert_eq!(
        refused(login.plays_scram(b"secret").step),
        (Refusal::NoVerifier, SASL_WRONG)
    );
}

#[test]
fn nobody_is_refused_like_a_wrong_password() {
    for known in [|| Known::Nobody, || secret("")] {
        let mut login = Login::of(Challenge::Plain, known());
        assert_eq!(*login.asked(), AuthRequest::CleartextPassword);
        assert_eq!(refused(login.types(b"guess")), (Refusal::NoPassword, WRONG));

        let mut login = Login::of(Challenge::Md5, known());
        assert_eq!(*login.asked(), AuthRequest::Md5Password { salt: SALT });
        let answer = md5_hash(b"alice", b"", SALT);
        assert_eq!(
            refused(login.types(answer.as_bytes())),
            (Refusal::NoPassword, WRONG)
        );

        let mut login = Login::of(Challenge::Scram, known());
        assert_eq!(
            refused(login.plays_scram(b"guess").step),
            (Refusal::NoVerifier, SASL_WRONG)
        );
    }
}

#[test]
fn the_mock_exchange_looks_like_a_real_one() {
    let challenge = |user: &str, known: Known| {
        let first = Login::as_user(user, Challenge::Scram, known)
            .plays_scram(b"guess")
            .server_first;
        let (nonce, challenge) = first.split_once(",s=").unwrap();
        (nonce.len(), challenge.to_owned())
    };
    let (nonce_len, mock) = challenge("alice", Known::Nobody);

    // The same salt and cost, whoever is behind the name and however often one asks.
    assert_eq!(challenge("alice", Known::Nobody), (nonce_len, mock.clone()));
    assert_eq!(
        challenge("alice", secret("secret")),
        (nonce_len, mock.clone())
    );
    assert_eq!(challenge("alice", secret("")), (nonce_len, mock.clone()));
    assert_eq!(
        challenge("alice", secret(&md5_text("x"))),
        (nonce_len, mock.clone())
    );

    // A stored verifier has a salt of its own, of the same length.
    let (stored_nonce_len, stored) = challenge("alice", secret(&verifier_text("x")));
    assert_eq!((stored_nonce_len, stored.len()), (nonce_len, mock.len()));
    assert_ne!(challenge("bob", Known::Nobody).1, mock);
}

#[test]
fn an_empty_password_is_named_as_such() {
    for challenge in [Challenge::Plain, Challenge::Md5] {
        for known in [secret("secret"), secret(""), Known::Nobody] {
            let mut login = Login::of(challenge, known);
            assert_eq!(
                refused(login.types(b"")),
                (Refusal::EmptyPassword, "empty password returned by client")
            );
        }
    }
}

#[test]
fn the_longest_password_works_and_one_byte_more_is_wrong() {
    let longest = "p".repeat(PASSWORD_LEN_MAX);
    let mut login = Login::of(Challenge::Plain, secret(&longest));
    admitted_with_password(login.types(longest.as_bytes()), &longest);

    let longer = format!("{longest}p");
    for stored in [&longest, &longer] {
        let mut login = Login::of(Challenge::Plain, secret(stored));
        assert_eq!(
            refused(login.types(longer.as_bytes())),
            (Refusal::PasswordTooLong(PASSWORD_LEN_MAX + 1), WRONG)
        );
    }
}

#[test]
fn a_password_message_that_is_none_is_refused() {
    for challenge in [Challenge::Plain, Challenge::Md5] {
        for body in [&b""[..], b"secret", b"secret\0x", b"secret\0\0"] {
            let mut login = Login::of(challenge, secret("secret"));
            let (refusal, text) = refused(login.acceptor.on(body));
            assert!(matches!(refusal, Refusal::BadPassword(_)));
            assert_eq!(text, WRONG);
        }
    }
}

#[test]
fn another_mechanism_is_an_invalid_one() {
    for mechanism in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "PLAIN", ""] {
        let mut login = Login::of(Challenge::Scram, secret("secret"));
        assert_eq!(
            refused(login.acceptor.on(&initial(mechanism, b"n,,n=,r=abc"))),
            (
                Refusal::Mechanism,
                "client selected an invalid SASL authentication mechanism"
            )
        );
    }
}

#[test]
fn broken_sasl_is_refused_at_every_step() {
    let mut login = Login::of(Challenge::Scram, secret("secret"));
    let (refusal, text) = refused(login.acceptor.on(b"SCRAM-SHA-256"));
    assert!(matches!(refusal, Refusal::BadSasl(_)));
    assert_eq!(text, SASL_WRONG);

    for first in [&b""[..], b"n,,", b"p=tls-unique,,n=,r=abc", b"\xff"] {
        let mut login = Login::of(Challenge::Scram, secret("secret"));
        let (refusal, text) = refused(login.acceptor.on(&initial(MECHANISM, first)));
        assert!(matches!(refusal, Refusal::Scram(_)));
        assert_eq!(text, SASL_WRONG);
    }
    let mut login = Login::of(Challenge::Scram, secret("secret"));
    let speechless = b"SCRAM-SHA-256\0\xff\xff\xff\xff";
    assert_eq!(refused(login.acceptor.on(speechless)).1, SASL_WRONG);

    for known in [secret("secret"), Known::Nobody, secret(&verifier_text("x"))] {
        let mut login = Login::of(Challenge::Scram, known);
        continued(login.acceptor.on(&initial(MECHANISM, b"n,,n=,r=abc")));
        // The shape of a message is judged alike for everybody.
        assert_eq!(
            refused(login.acceptor.on(b"c=biws,r=abc,p=AAAA")),
            (Refusal::Scram(ScramError::Nonce), SASL_WRONG)
        );
    }
}

#[test]
fn whoever_speaks_out_of_turn_is_refused() {
    let mut login = Login::of(Challenge::Trust, secret("secret"));
    assert_eq!(refused(login.types(b"secret")), (Refusal::OutOfTurn, WRONG));

    let mut login = Login::of(Challenge::Scram, secret("secret"));
    let scram = login.plays_scram(b"secret");
    let derived = job(scram.step).run();
    assert_eq!(
        refused(login.acceptor.on(scram.client.message())).0,
        Refusal::OutOfTurn
    );
    assert_eq!(
        refused(login.acceptor.derived(&derived)).0,
        Refusal::OutOfTurn
    );

    let mut login = Login::of(Challenge::Plain, secret("secret"));
    refused(login.types(b"guess"));
    assert_eq!(refused(login.types(b"secret")).0, Refusal::OutOfTurn);
}

#[test]
fn nothing_secret_is_printed() {
    let mut login = Login::of(Challenge::Plain, secret("hush-hush"));
    let step = format!("{:?}", login.types(b"hush-hush"));
    assert!(
        step.contains("Password(…)") && !step.contains("hush"),
        "{step}"
    );

    let mut login = Login::of(Challenge::Plain, secret(&verifier_text("x")));
    let step = format!("{:?}", login.types(b"hush-hush"));
    assert_eq!(step, "Derive(Job(2 iterations))");
}

/// A client's message, mostly of the right kind.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        "\\PC{0,20}".prop_map(|text| body_of(|out| put_password(out, text.as_bytes()))),
        "[nyp],,n=,r=[a-z]{0,9}".prop_map(|text| initial(MECHANISM, text.as_bytes())),
        "c=biws,r=[a-z]{0,9},p=[A-Za-z0-9+/]{0,43}="
            .prop_map(|text| body_of(|out| put_sasl_response(out, text.as_bytes()))),
        Just(initial(MECHANISM, b"n,,n=,r=abc")),
        Just(
            [
                &b"c=biws,r=abcAQEBAQEBAQEBAQEBAQEBAQEBAQEB,p="[..],
                &[b'A'; 43],
                b"="
            ]
            .concat()
        ),
    ]
}

fn body_of(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = Vec::new();
    put(&mut message);
    message.split_off(5)
}

proptest! {
    #[test]
    fn no_sequence_of_messages_lets_a_stranger_in(
        challenge in prop::sample::select(vec![Challenge::Plain, Challenge::Md5, Challenge::Scram]),
        stored in prop::sample::select(vec![None, Some(0), Some(1), Some(2)]),
        messages in prop::collection::vec(any_message(), 1..5),
    ) {
        let known = match stored {
            None => Known::Nobody,
            Some(0) => secret("correct horse battery staple"),
            Some(1) => secret(&md5_text("correct horse battery staple")),
            Some(_) => secret(&verifier_text("correct horse battery staple")),
        };
        let mut login = Login::of(challenge, known);
        for message in &messages {
            let step = match login.acceptor.on(message) {
                Step::Derive(job) => login.acceptor.derived(&job.run()),
                step => step,
            };
            let is_in = matches!(step, Step::Done { .. });
            prop_assert!(!is_in);
        }
    }
}
