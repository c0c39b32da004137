//! Logins to servers that are honest, strange or false.

mod binding;

use postgres_protocol::authentication::md5_hash;
use proptest::prelude::*;
use wire::authentication::parse_password;

use super::*;
use crate::scram::{ITERATIONS_MAX, ServerExchange, Verifier};

const SALT: &[u8] = b"sixteen bytes...";

fn plain(password: &str) -> Credentials {
    secret(password)
}

fn secret(text: &str) -> Credentials {
    Credentials {
        secret: Some(Secret::parse(text.as_bytes())),
        ..Credentials::default()
    }
}

fn verifier(password: &str) -> Verifier {
    Verifier::from_password(&Password::new(password), 2, SALT)
}

fn keys(password: &str) -> ScramKeys {
    ScramKeys::derive(&Password::new(password), SALT, 2)
}

fn only_keys(password: &str) -> Credentials {
    Credentials {
        secret: Some(Secret::Scram(verifier(password))),
        scram_keys: Some(keys(password)),
        cached: None,
    }
}

fn alice(credentials: Credentials) -> Initiator {
    Initiator::new("alice", credentials, Nonce::from_bytes([2; Nonce::LEN]))
}

fn md5() -> AuthRequest {
    AuthRequest::Md5Password { salt: *b"salt" }
}

fn offer(mechanisms: &[&str]) -> AuthRequest {
    AuthRequest::Sasl {
        mechanisms: mechanisms
            .iter()
            .map(|&name| name.to_owned().into())
            .collect(),
    }
}

fn scram() -> AuthRequest {
    offer(&["SCRAM-SHA-256"])
}

/// The body of the message to be sent.
fn sent(reply: Result<Reply, LoginError>) -> Vec<u8> {
    match reply.unwrap() {
        Reply::Send(mut message) => {
            assert_eq!(message[0], b'p');
            message.split_off(5)
        }
        reply => panic!("{reply:?}"),
    }
}

fn password_sent(reply: Result<Reply, LoginError>) -> Vec<u8> {
    parse_password(&sent(reply)).unwrap().to_vec()
}

fn job(reply: Result<Reply, LoginError>) -> Job {
    match reply.unwrap() {
        Reply::Derive(job) => job,
        reply => panic!("{reply:?}"),
    }
}

fn text(reply: Result<Reply, LoginError>) -> String {
    reply.unwrap_err().to_string()
}

/// A server of ours that answers client-first.
fn challenge(initiator: &mut Initiator) -> (ServerExchange, AuthRequest) {
    let body = sent(initiator.on(scram()));
    let first = SaslInitialResponse::parse(&body).unwrap();
    assert_eq!(first.mechanism, "SCRAM-SHA-256");
    let (exchange, server_first) = ServerExchange::begin(
        first.response.unwrap(),
        &Nonce::from_bytes([1; Nonce::LEN]),
        SALT,
        2,
        &ChannelBinding::None,
    )
    .unwrap();
    (
        exchange,
        AuthRequest::SaslContinue(server_first.into_bytes()),
    )
}

/// The server's last words to a client that has proven itself.
fn server_final(exchange: ServerExchange, client_final: &[u8], password: &str) -> AuthRequest {
    let proof = exchange.proof(client_final).unwrap();
    let accepted = proof.check(&verifier(password)).unwrap();
    AuthRequest::SaslFinal(accepted.server_final.into_bytes())
}

fn waits(reply: Result<Reply, LoginError>) {
    assert!(matches!(reply, Ok(Reply::Wait)), "{reply:?}");
}

fn is_done(reply: Result<Reply, LoginError>) {
    assert!(matches!(reply, Ok(Reply::Done)), "{reply:?}");
}

#[test]
fn a_trusting_server_needs_no_secret() {
    for credentials in [
        Credentials::default(),
        plain(""),
        plain("x"),
        only_keys("x"),
    ] {
        is_done(alice(credentials).on(AuthRequest::Ok));
    }
}

#[test]
fn a_cleartext_server_gets_the_password_and_nothing_else_will_do() {
    let mut initiator = alice(plain("secret"));
    let reply = initiator.on(AuthRequest::CleartextPassword);
    assert_eq!(password_sent(reply), b"secret");
    is_done(initiator.on(AuthRequest::Ok));

    for credentials in [
        Credentials::default(),
        only_keys("secret"),
        secret(&verifier("secret").encode()),
        secret("md5e8a48653851e28c69d0506508fb27fc5"),
    ] {
        assert_eq!(
            text(alice(credentials).on(AuthRequest::CleartextPassword)),
            "wrong password type"
        );
    }
}

#[test]
fn a_md5_server_gets_an_answer_from_the_password_or_its_hash() {
    let stored = postgres_protocol::password::md5(b"secret", "alice");
    for credentials in [plain("secret"), secret(&stored)] {
        let mut initiator = alice(credentials);
        let right = md5_hash(b"alice", b"secret", *b"salt");
        assert_eq!(password_sent(initiator.on(md5())), right.as_bytes());
        is_done(initiator.on(AuthRequest::Ok));
    }
    for credentials in [
        Credentials::default(),
        only_keys("secret"),
        secret(&verifier("secret").encode()),
    ] {
        assert_eq!(text(alice(credentials).on(md5())), "wrong password type");
    }
}

#[test]
fn a_scram_server_is_answered_from_the_password() {
    let mut initiator = alice(plain("secret"));
    let (exchange, request) = challenge(&mut initiator);
    let derived = job(initiator.on(request)).run();
    let client_final = sent(initiator.derived(&derived));
    waits(initiator.on(server_final(exchange, &client_final, "secret")));
    is_done(initiator.on(AuthRequest::Ok));
}

#[test]
fn keys_derived_once_serve_the_next_login() {
    let mut first = alice(plain("secret"));
    let (_, request) = challenge(&mut first);
    let derived = Arc::new(job(first.on(request)).run());

    let mut next = alice(Credentials {
        cached: Some(derived.clone()),
        ..plain("secret")
    });
    let (exchange, request) = challenge(&mut next);
    let client_final = sent(next.on(request));
    waits(next.on(server_final(exchange, &client_final, "secret")));
    is_done(next.on(AuthRequest::Ok));

    let mut changed = alice(Credentials {
        cached: Some(derived.clone()),
        ..plain("changed")
    });
    let (_, request) = challenge(&mut changed);
    let _ = job(changed.on(request));
    assert_eq!(
        text(changed.derived(&derived)),
        "unexpected authentication message"
    );
}

#[test]
fn a_scram_server_is_answered_from_a_client_s_keys() {
    for credentials in [
        only_keys("secret"),
        // An auth_file may name the user without a password.
        Credentials {
            scram_keys: Some(keys("secret")),
            ..plain("")
        },
        Credentials {
            scram_keys: Some(keys("secret")),
            ..Credentials::default()
        },
    ] {
        let mut initiator = alice(credentials);
        let (exchange, request) = challenge(&mut initiator);
        let client_final = sent(initiator.on(request));
        waits(initiator.on(server_final(exchange, &client_final, "secret")));
        is_done(initiator.on(AuthRequest::Ok));
    }
}

#[test]
fn the_password_goes_before_keys_that_may_be_stale() {
    let mut initiator = alice(Credentials {
        scram_keys: Some(keys("old")),
        ..plain("secret")
    });
    let (_, request) = challenge(&mut initiator);
    assert!(matches!(initiator.on(request), Ok(Reply::Derive(_))));
}

#[test]
fn neither_a_hash_nor_a_verifier_alone_answers_scram() {
    for credentials in [
        Credentials::default(),
        secret("md5e8a48653851e28c69d0506508fb27fc5"),
        secret(&verifier("secret").encode()),
    ] {
        assert_eq!(text(alice(credentials).on(scram())), "wrong password type");
    }
}

#[test]
fn of_several_mechanisms_ours_is_chosen_and_without_it_we_go() {
    let both = offer(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    let body = sent(alice(plain("secret")).on(both));
    let chosen = SaslInitialResponse::parse(&body).unwrap();
    assert_eq!(chosen.mechanism, "SCRAM-SHA-256");

    for mechanisms in [&["SCRAM-SHA-256-PLUS", "OAUTHBEARER"][..], &[]] {
        assert_eq!(
            text(alice(plain("secret")).on(offer(mechanisms))),
            "none of the server's SASL authentication mechanisms are supported"
        );
    }
}

#[test]
fn a_server_that_does_not_know_the_key_is_left() {
    let mut initiator = alice(only_keys("secret"));
    let (_, request) = challenge(&mut initiator);
    sent(initiator.on(request));
    let forged = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(
        text(initiator.on(AuthRequest::SaslFinal(forged.to_vec()))),
        "invalid server signature"
    );

    for unreadable in [&b""[..], b"v=AAAA", b"e=other-error", b"\xff"] {
        let mut initiator = alice(only_keys("secret"));
        let (_, request) = challenge(&mut initiator);
        sent(initiator.on(request));
        assert_eq!(
            text(initiator.on(AuthRequest::SaslFinal(unreadable.to_vec()))),
            "failed to verify server signature"
        );
    }
}

#[test]
fn a_server_may_not_skip_its_own_proof() {
    const SKIPPED: &str = "failed to verify server signature";

    let mut initiator = alice(plain("secret"));
    sent(initiator.on(scram()));
    assert_eq!(text(initiator.on(AuthRequest::Ok)), SKIPPED);

    let mut initiator = alice(plain("secret"));
    let (_, request) = challenge(&mut initiator);
    let _ = job(initiator.on(request));
    assert_eq!(text(initiator.on(AuthRequest::Ok)), SKIPPED);

    let mut initiator = alice(only_keys("secret"));
    let (_, request) = challenge(&mut initiator);
    sent(initiator.on(request));
    assert_eq!(text(initiator.on(AuthRequest::Ok)), SKIPPED);
    // What failed stays failed.
    assert_eq!(
        initiator.on(AuthRequest::Ok).unwrap_err(),
        LoginError::OutOfTurn
    );
}

#[test]
fn a_challenge_out_of_bounds_is_not_answered() {
    let challenged = |server_first: &str| {
        let mut initiator = alice(plain("secret"));
        sent(initiator.on(scram()));
        initiator
            .on(AuthRequest::SaslContinue(server_first.into()))
            .unwrap_err()
    };
    let nonce = "r=AgICAgICAgICAgICAgICAgICx";
    let count = ITERATIONS_MAX + 1;
    assert_eq!(
        challenged(&format!("{nonce},s=c2FsdA==,i={count}")),
        LoginError::Scram(ScramError::Iterations(count.into()))
    );
    let endless = "x".repeat(600);
    for strange in [
        "r=strange",
        "r=AgICAgICAgICAgICAgICAgIC",
        &format!("{nonce}{endless}"),
    ] {
        assert_eq!(
            challenged(&format!("{strange},s=c2FsdA==,i=4096")),
            LoginError::Scram(ScramError::Nonce)
        );
    }
}

#[test]
fn methods_not_spoken_here_are_named_by_number() {
    assert_eq!(
        text(alice(plain("secret")).on(AuthRequest::Unsupported(7))),
        "unsupported authentication method 7"
    );
}

#[test]
fn a_server_that_asks_twice_or_out_of_turn_is_left() {
    let second = [
        AuthRequest::CleartextPassword,
        md5(),
        scram(),
        AuthRequest::SaslContinue(Vec::new()),
        AuthRequest::SaslFinal(Vec::new()),
        AuthRequest::Unsupported(7),
    ];
    for request in second {
        let mut initiator = alice(plain("secret"));
        sent(initiator.on(AuthRequest::CleartextPassword));
        assert_eq!(
            text(initiator.on(request)),
            "unexpected authentication message"
        );
    }
    for first in [
        AuthRequest::SaslContinue(Vec::new()),
        AuthRequest::SaslFinal(Vec::new()),
    ] {
        assert_eq!(
            alice(plain("secret")).on(first).unwrap_err(),
            LoginError::OutOfTurn
        );
    }
}

#[test]
fn what_is_sent_is_not_printed() {
    let reply = alice(plain("hush")).on(AuthRequest::CleartextPassword);
    assert_eq!(format!("{reply:?}"), "Ok(Send(…))");
    assert!(!format!("{:?}", plain("hush")).contains("hush"));
}

fn any_request() -> impl Strategy<Value = AuthRequest> {
    prop_oneof![
        Just(AuthRequest::Ok),
        Just(AuthRequest::CleartextPassword),
        Just(md5()),
        Just(scram()),
        any::<Vec<u8>>().prop_map(AuthRequest::SaslContinue),
        any::<Vec<u8>>().prop_map(AuthRequest::SaslFinal),
        Just(AuthRequest::SaslContinue(
            b"r=AgICAgICAgICAgICAgICAgICx,s=c2FsdA==,i=2".to_vec()
        )),
        "v=[A-Za-z0-9+/]{43}=".prop_map(|text| AuthRequest::SaslFinal(text.into_bytes())),
        any::<u32>().prop_map(AuthRequest::Unsupported),
    ]
}

proptest! {
    #[test]
    fn no_server_gets_through_scram_without_the_key(
        credentials in prop::sample::select(vec![plain("secret"), only_keys("secret")]),
        requests in prop::collection::vec(any_request(), 1..6),
    ) {
        let mut initiator = alice(credentials);
        sent(initiator.on(scram()));
        for request in requests {
            let reply = match initiator.on(request) {
                Ok(Reply::Derive(job)) => initiator.derived(&job.run()),
                reply => reply,
            };
            prop_assert!(!matches!(reply, Ok(Reply::Done | Reply::Wait)));
        }
    }
}
