//! Logins over encrypted connections, bound to the server's certificate or not.

use super::*;

fn encrypted() -> Initiator {
    alice(plain("secret")).bound_to(Some([7; 32].into()))
}

/// The mechanism that is chosen, and the front of the first message.
fn chosen(mut initiator: Initiator, mechanisms: &[&str]) -> Result<(String, String), LoginError> {
    let body = match initiator.on(offer(mechanisms))? {
        Reply::Send(mut message) => message.split_off(5),
        reply => panic!("{reply:?}"),
    };
    let first = SaslInitialResponse::parse(&body).unwrap();
    let text = std::str::from_utf8(first.response.unwrap()).unwrap();
    let (header, _) = text.split_once(",,").unwrap();
    Ok((first.mechanism.to_owned(), header.to_owned()))
}

fn choice(mechanism: &str, flag: &str) -> Result<(String, String), LoginError> {
    Ok((mechanism.to_owned(), flag.to_owned()))
}

const BOTH: [&str; 2] = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];

#[test]
fn a_login_is_bound_where_both_sides_can() {
    let bound = choice("SCRAM-SHA-256-PLUS", "p=tls-server-end-point");
    assert_eq!(chosen(encrypted(), &BOTH), bound);
    assert_eq!(
        chosen(encrypted(), &["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]),
        bound
    );
    assert_eq!(chosen(encrypted(), &["SCRAM-SHA-256-PLUS"]), bound);
}

#[test]
fn a_server_hears_that_we_could_have_bound() {
    assert_eq!(
        chosen(encrypted(), &["SCRAM-SHA-256"]),
        choice("SCRAM-SHA-256", "y")
    );
}

#[test]
fn where_there_is_nothing_to_bind_to_binding_is_not_spoken_of() {
    let clear = || alice(plain("secret"));
    assert_eq!(chosen(clear(), &BOTH), choice("SCRAM-SHA-256", "n"));
    let refused = chosen(clear(), &["SCRAM-SHA-256-PLUS"]);
    assert_eq!(refused, Err(LoginError::NoMechanism));
}

#[test]
fn keys_of_a_clients_login_answer_a_bound_exchange_too() {
    let mut initiator = alice(only_keys("secret")).bound_to(Some([7; 32].into()));
    let body = sent(initiator.on(offer(&BOTH)));
    let first = SaslInitialResponse::parse(&body).unwrap().response.unwrap();
    let nonce = Nonce::from_bytes([1; Nonce::LEN]);
    let binding = ChannelBinding::EndPoint([7; 32].into());
    let (exchange, server_first) = ServerExchange::begin(first, &nonce, SALT, 2, &binding).unwrap();
    let answer = sent(initiator.on(AuthRequest::SaslContinue(server_first.into_bytes())));
    waits(initiator.on(server_final(exchange, &answer, "secret")));
    is_done(initiator.on(AuthRequest::Ok));
}
