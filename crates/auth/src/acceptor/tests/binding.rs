//! Logins over encrypted connections, bound to the certificate or not.

use super::*;

fn end_point() -> Arc<[u8]> {
    [7; 32].into()
}

/// A login of alice over a connection that can be bound to.
fn encrypted(challenge: Challenge, known: Known) -> Login {
    Login::over(Some(&end_point()), "alice", challenge, known)
}

/// Plays SCRAM with another implementation's client, up to the end or a job.
fn played(login: &mut Login, mechanism: &str, binding: sasl::ChannelBinding) -> Step {
    let mut client = sasl::ScramSha256::new(b"secret", binding);
    match login.acceptor.on(&initial(mechanism, client.message())) {
        Step::Send(AuthRequest::SaslContinue(server_first)) => {
            client.update(&server_first).unwrap();
            login.acceptor.on(client.message())
        }
        step => step,
    }
}

fn to_our_certificate() -> sasl::ChannelBinding {
    sasl::ChannelBinding::tls_server_end_point(end_point().to_vec())
}

#[test]
fn binding_is_offered_first_wherever_scram_is() {
    let scram = encrypted(Challenge::Scram, secret("secret"));
    let by_md5 = encrypted(Challenge::Md5, secret(&verifier_text("secret")));
    let unknown = encrypted(Challenge::Scram, Known::Nobody);
    for login in [scram, by_md5, unknown] {
        let AuthRequest::Sasl { mechanisms } = login.asked() else {
            panic!("{:?}", login.asked());
        };
        assert_eq!(**mechanisms, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    }
}

#[test]
fn a_bound_login_against_a_stored_verifier_yields_the_clients_keys_too() {
    let mut login = encrypted(Challenge::Scram, secret(&verifier_text("secret")));
    let step = played(&mut login, MECHANISM_PLUS, to_our_certificate());
    let (_, identity) = admitted(step);
    let keys = ScramKeys::derive(&Password::new("secret"), b"sixteen bytes...", ITERATIONS);
    let found = identity.scram_keys.unwrap();
    assert_eq!(found.client_key(), keys.client_key());
}

#[test]
fn a_bound_login_with_a_plain_secret_is_let_in() {
    let mut login = encrypted(Challenge::Scram, secret("secret"));
    let step = played(&mut login, MECHANISM_PLUS, to_our_certificate());
    let derived = job(step).run();
    admitted(login.acceptor.derived(&derived));
}

#[test]
fn a_client_that_can_not_bind_is_let_in_and_one_that_was_deceived_is_not() {
    let known = || secret(&verifier_text("secret"));
    let mut login = encrypted(Challenge::Scram, known());
    let step = played(&mut login, MECHANISM, sasl::ChannelBinding::unsupported());
    admitted(step);

    let mut login = encrypted(Challenge::Scram, known());
    let step = played(&mut login, MECHANISM, sasl::ChannelBinding::unrequested());
    let refusal = Refusal::Scram(ScramError::Downgrade);
    assert_eq!(refused(step), (refusal, "SASL authentication failed"));
}

#[test]
fn a_client_that_saw_another_certificate_is_refused() {
    let mut login = encrypted(Challenge::Scram, secret(&verifier_text("secret")));
    let other = sasl::ChannelBinding::tls_server_end_point(vec![8; 32]);
    let step = played(&mut login, MECHANISM_PLUS, other);
    let refusal = Refusal::Scram(ScramError::ChannelBinding);
    assert_eq!(refused(step), (refusal, "SASL authentication failed"));
}

#[test]
fn binding_is_not_to_be_had_in_the_clear() {
    let mut login = Login::of(Challenge::Scram, secret("secret"));
    let step = played(&mut login, MECHANISM_PLUS, to_our_certificate());
    assert_eq!(refused(step).0, Refusal::Mechanism);
}
