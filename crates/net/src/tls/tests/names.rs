//! Whose a certificate is.

use super::judge::{Judge, der};
use super::*;

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
}
