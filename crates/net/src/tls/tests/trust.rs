//! Which certificates are believed, by who signed them and when.

use testkit::Key;

use super::judge::{Judge, days_ago, der, in_days, v3};
use super::*;

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
