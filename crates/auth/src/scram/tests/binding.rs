//! Exchanges that are bound to a certificate, and those that could have been.

use super::*;

fn bound() -> ChannelBinding {
    ChannelBinding::EndPoint([7; 32].into())
}

/// What a server says to this client-first when it has this to bind to, and the mechanism is
/// chosen accordingly.
fn begin_with(
    binding: &ChannelBinding,
    client_first: &str,
) -> Result<(ServerExchange, String), ScramError> {
    let client_first = client_first.as_bytes();
    ServerExchange::begin(client_first, &server_nonce(), SALT, 2, binding)
}

/// Plays a whole exchange; the error, if there is one, is the server's.
fn played(client: ChannelBinding, server: &ChannelBinding) -> Result<(), ScramError> {
    let nonce = Nonce::from_bytes([2; Nonce::LEN]);
    let (client, first) = ClientExchange::begin(nonce, client);
    let (server, answer) = begin_with(server, &first)?;
    let challenge = client.challenged(answer.as_bytes()).unwrap();
    let (awaited, client_final) = challenge.answer(&keys("secret"));
    let accepted = server
        .proof(client_final.as_bytes())?
        .check(&verifier("secret"))?;
    awaited.verify(accepted.server_final.as_bytes()).unwrap();
    Ok(())
}

#[test]
fn both_sides_agree_when_they_see_the_same_certificate() {
    assert_eq!(played(bound(), &bound()), Ok(()));
    let other = ChannelBinding::EndPoint([8; 32].into());
    assert_eq!(played(other, &bound()), Err(ScramError::ChannelBinding));
    let longer = ChannelBinding::EndPoint([7; 48].into());
    assert_eq!(played(longer, &bound()), Err(ScramError::ChannelBinding));
}

#[test]
fn a_client_that_could_bind_does_not_believe_that_it_was_not_offered() {
    use ChannelBinding::{None, Unused};

    assert_eq!(played(None, &None), Ok(()));
    // Whoever took the offer away would have the client say so.
    assert_eq!(played(Unused, &None), Ok(()));
    assert_eq!(played(Unused, &Unused), Err(ScramError::Downgrade));
    // It can't bind at all.
    assert_eq!(played(None, &Unused), Ok(()));
}

#[test]
fn the_mechanism_and_the_first_message_must_say_the_same() {
    use ChannelBinding::{None, Unused};

    for (binding, allowed) in [(None, "ny"), (Unused, "n"), (bound(), "p")] {
        let flags = [
            "n",
            "y",
            "p=tls-server-end-point",
            "p=tls-unique",
            "p=",
            "p",
            "",
            "N",
        ];
        for flag in flags {
            let begun = begin_with(&binding, &format!("{flag},,n=,r=abc"));
            let fits = match flag {
                "n" | "y" => allowed.contains(flag),
                "p=tls-server-end-point" => allowed == "p",
                _ => false,
            };
            assert_eq!(begun.is_ok(), fits, "{flag:?} with {binding:?}");
        }
    }
}

#[test]
fn what_is_bound_to_is_part_of_the_proof() {
    let nonce = Nonce::from_bytes([2; Nonce::LEN]);
    let (client, first) = ClientExchange::begin(nonce, bound());
    let (server, answer) = begin_with(&bound(), &first).unwrap();
    let challenge = client.challenged(answer.as_bytes()).unwrap();
    let (_, client_final) = challenge.answer(&keys("secret"));
    // Someone between, who has shown the client another certificate, puts ours in its place.
    let (client, first) = ClientExchange::begin(
        Nonce::from_bytes([2; Nonce::LEN]),
        ChannelBinding::EndPoint([8; 32].into()),
    );
    let (_, theirs) = begin_with(&bound(), &first).unwrap();
    let challenge = client.challenged(theirs.as_bytes()).unwrap();
    let (_, seen) = challenge.answer(&keys("secret"));
    let binding = |text: &str| text.split(',').next().unwrap().to_owned();
    let swapped = seen.replace(&binding(&seen), &binding(&client_final));
    let verdict = server.proof(swapped.as_bytes()).unwrap();
    assert_eq!(
        verdict.check(&verifier("secret")).err(),
        Some(ScramError::Proof)
    );
}

#[test]
fn another_implementation_binds_to_ours() {
    let binding = sasl::ChannelBinding::tls_server_end_point(vec![7; 32]);
    let mut client = sasl::ScramSha256::new(b"secret", binding);
    let first = std::str::from_utf8(client.message()).unwrap().to_owned();
    let (server, server_first) = begin_with(&bound(), &first).unwrap();
    client.update(server_first.as_bytes()).unwrap();
    let accepted = server
        .proof(client.message())
        .unwrap()
        .check(&verifier("secret"))
        .unwrap();
    client.finish(accepted.server_final.as_bytes()).unwrap();
}
