use proptest::prelude::*;

use super::*;

const UNIX: Origin = Origin::Unix;

/// Over TCP without TLS.
fn from(address: &str) -> Origin {
    let address = address.parse().unwrap();
    Origin::Tcp {
        address,
        tls: false,
    }
}

fn over_tls(address: &str) -> Origin {
    let address = address.parse().unwrap();
    Origin::Tcp { address, tls: true }
}

fn no_files(file: &str) -> Result<Vec<u8>, String> {
    Err(format!("there is no {file}"))
}

fn hba(text: &str) -> Hba {
    let hba = Hba::parse(text.as_bytes(), &mut no_files);
    assert_eq!(hba.findings(), [], "{text}");
    hba
}

fn findings(text: &str) -> Vec<String> {
    let hba = Hba::parse(text.as_bytes(), &mut no_files);
    hba.findings().iter().map(ToString::to_string).collect()
}

/// The method for a client, in its word in the file.
fn method(hba: &Hba, from: Origin, database: &str, user: &str) -> &'static str {
    let database = Some(database);
    let visitor = Visitor {
        from,
        database,
        user,
    };
    word(hba.method_for(visitor))
}

fn word(method: Option<&Method>) -> &'static str {
    match method {
        None => "none",
        Some(Method::Trust) => "trust",
        Some(Method::Reject) => "reject",
        Some(Method::Md5) => "md5",
        Some(Method::Password) => "password",
        Some(Method::ScramSha256) => "scram-sha-256",
        Some(Method::Cert { .. }) => "cert",
        Some(Method::Peer { .. }) => "peer",
        Some(Method::Ldap(_)) => "ldap",
        Some(Method::Pam) => "pam",
    }
}

#[test]
fn the_first_line_that_fits_decides() {
    let hba = hba("
        # type  database  user   address       method
        local   all       all                  peer
        host    shop      alice  10.0.0.0/8    trust
        host    shop      all    10.0.0.0/8    reject
        host    all       all    0.0.0.0/0     scram-sha-256
    ");
    assert_eq!(method(&hba, UNIX, "shop", "alice"), "peer");
    assert_eq!(method(&hba, from("10.1.2.3"), "shop", "alice"), "trust");
    assert_eq!(method(&hba, from("10.1.2.3"), "shop", "bob"), "reject");
    assert_eq!(method(&hba, from("10.1.2.3"), "hr", "bob"), "scram-sha-256");
    assert_eq!(method(&hba, from("::1"), "hr", "bob"), "none");
}

#[test]
fn every_method_has_its_word() {
    let hba = hba("
        local  a all trust
        local  b all reject
        local  c all md5
        local  d all password
        local  e all scram-sha-256
        local  f all cert map=m
        local  g all peer  # without a map
        local  h all ldap ldapserver=dir ldapprefix=uid= ldapsuffix=\", dc=x\"
        local  i all pam
    ");
    let words = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
        .map(|database| method(&hba, UNIX, database, "u"));
    assert_eq!(
        words,
        [
            "trust",
            "reject",
            "md5",
            "password",
            "scram-sha-256",
            "cert",
            "peer",
            "ldap",
            "pam"
        ]
    );
    let maps: Vec<_> = hba
        .methods()
        .filter_map(|method| match method {
            Method::Cert { map } | Method::Peer { map } => Some(map.as_deref()),
            _ => None,
        })
        .collect();
    assert_eq!(maps, [Some("m"), None]);
}

#[test]
fn tls_parts_hostssl_from_hostnossl_and_host_takes_both() {
    let hba = hba("
        hostssl    all a all trust
        hostnossl  all b all trust
        host       all c all trust
    ");
    let told = |user| {
        let plain = method(&hba, from("10.0.0.1"), "d", user);
        let tls = method(&hba, over_tls("10.0.0.1"), "d", user);
        (plain, tls, method(&hba, UNIX, "d", user))
    };
    assert_eq!(told("a"), ("none", "trust", "none"));
    assert_eq!(told("b"), ("trust", "none", "none"));
    assert_eq!(told("c"), ("trust", "trust", "none"));
}

#[test]
fn addresses_are_networks_of_either_family() {
    let lets = |network: &str, address: &str| {
        let hba = hba(&format!("host all all {network} trust"));
        method(&hba, from(address), "d", "u") == "trust"
    };
    for (network, inside, outside) in [
        ("192.168.0.0/16", "192.168.255.1", "192.169.0.0"),
        ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
        ("128.0.0.0/1", "255.0.0.1", "127.0.0.1"),
        ("10.0.0.0 255.0.0.0", "10.9.9.9", "11.0.0.0"),
        ("10.0.0.4 255.0.0.7", "10.9.9.12", "10.9.9.13"),
        ("::1/128", "::1", "::2"),
        ("fe80::/10", "febf::1", "fec0::1"),
        ("fd00:: ff00::", "fd12::1", "fc00::1"),
        ("0.0.0.0/0", "1.2.3.4", "::1"),
        ("::/0", "::1", "1.2.3.4"),
    ] {
        assert!(lets(network, inside), "{network} {inside}");
        assert!(!lets(network, outside), "{network} {outside}");
    }
    assert!(lets("all", "1.2.3.4") && lets("all", "::1"));
    // As a socket for both families tells an IPv4 address.
    assert!(lets("127.0.0.1/32", "::ffff:127.0.0.1"));
    assert!(!lets("::/0", "::ffff:127.0.0.1"));
}

#[test]
fn databases_are_keywords_names_or_lists() {
    let hba = hba("
        local  sameuser       all  md5
        local  shop,\"hr dept\" all  trust
        local  \"all\",\"sameuser\",\"replication\"  all  password
    ");
    let told = |database, user| method(&hba, UNIX, database, user);
    assert_eq!(told("alice", "alice"), "md5");
    assert_eq!(told("alice", "bob"), "none");
    assert_eq!(told("shop", "bob"), "trust");
    assert_eq!(told("hr dept", "bob"), "trust");
    assert_eq!(told("all", "bob"), "password");
    assert_eq!(told("sameuser", "bob"), "password");
    assert_eq!(told("replication", "bob"), "password");
    assert_eq!(told("hr", "bob"), "none");
}

#[test]
fn users_are_all_names_or_lists() {
    let hba = hba("
        local  all  alice , \"bob b\"  trust
        local  all  \"all\"  md5
        local  d    all  password
    ");
    let told = |user| method(&hba, UNIX, "d", user);
    assert_eq!(told("alice"), "trust");
    assert_eq!(told("bob b"), "trust");
    assert_eq!(told("all"), "md5");
    assert_eq!(told("ALICE"), "password");
}

#[test]
fn physical_replication_has_lines_of_its_own() {
    let hba = hba("
        local  all          all  trust
        local  replication  all  md5
    ");
    let visitor = Visitor {
        from: UNIX,
        database: None,
        user: "u",
    };
    assert_eq!(word(hba.method_for(visitor)), "md5");
    // A database may have that name.
    assert_eq!(method(&hba, UNIX, "replication", "u"), "trust");
}

#[test]
fn names_may_come_from_files() {
    let mut read = |file: &str| match file {
        "staff" => Ok(b"alice bob,carol # and\n# others\n \"dora d\"".to_vec()),
        "every" => Ok(b"all".to_vec()),
        "nested" => Ok(b"a @staff".to_vec()),
        file => no_files(file),
    };
    let text = "
        local  d       @staff,eve  trust
        local  @every  zoe         md5
        local  all     @gone       trust
        local  all     @nested     trust
        local  all     \"@staff\"    password
    ";
    let hba = Hba::parse(text.as_bytes(), &mut read);
    let told = |user| method(&hba, UNIX, "d", user);
    for user in ["alice", "bob", "carol", "dora d", "eve"] {
        assert_eq!(told(user), "trust", "{user}");
    }
    assert_eq!(told("zoe"), "md5");
    assert_eq!(told("@staff"), "password");
    let findings: Vec<_> = hba.findings().iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "line 4: @gone: there is no gone",
            "line 5: @nested: it names another file"
        ]
    );
}

#[test]
fn a_line_that_can_not_be_read_is_skipped_and_told_of() {
    for (line, told) in [
        (
            "hostgssenc all all all trust",
            "\"hostgssenc\" is no type of record: expected local, host, hostssl or hostnossl",
        ),
        ("local", "it ends without database"),
        ("local all", "it ends without user"),
        ("local all all", "it ends without method"),
        ("host all all", "it ends without address"),
        ("host all all 10.0.0.1 # x", "it ends without mask"),
        ("local all all trust,md5", "one method is expected"),
        ("local samerole all trust", "\"samerole\" is not supported"),
        (
            "local samegroup all trust",
            "\"samegroup\" is not supported",
        ),
        ("local all +staff trust", "\"+staff\" is not supported"),
        ("local all /^a trust", "\"/^a\" is not supported"),
        (
            "host all all localhost trust",
            "\"localhost\" is no address: expected all, an address with /bits, or an address and \
             a mask",
        ),
        (
            "host all all samenet trust",
            "\"samenet\" is no address: expected all, an address with /bits, or an address and \
             a mask",
        ),
        (
            "host all all 10.0.0.0/33 trust",
            "\"33\" is no mask for this address",
        ),
        (
            "host all all ::/129 trust",
            "\"129\" is no mask for this address",
        ),
        (
            "host all all 10.0.0.0/x trust",
            "\"x\" is no mask for this address",
        ),
        (
            "host all all 10.0.0.0 trust",
            "\"trust\" is no mask for this address",
        ),
        (
            "host all all 10.0.0.0 ff:: trust",
            "\"ff::\" is no mask for this address",
        ),
        (
            "host all all 10.0.0.1/8 trust",
            "the address has bits outside its mask: nobody has such an address",
        ),
        (
            "local all all gss",
            "\"gss\" is no method that is supported",
        ),
        (
            "hostssl all all all trust clientcert=verify-full",
            "option \"clientcert\" is not supported here",
        ),
        (
            "local all all peer map=",
            "option \"map\" is not supported here",
        ),
        (
            "local all all peer map=a x=y",
            "option \"x\" is not supported here",
        ),
        ("local all all ldap", "ldapserver or ldapurl is missing"),
        ("local all all ldap x=hush", "\"x\" is no LDAP option"),
        ("local all \"all trust", "a quote is not closed"),
        ("local all, all trust,", "nothing follows a comma"),
        ("local all all,", "nothing follows a comma"),
    ] {
        let text = format!("{line}\nlocal all all md5");
        let expected = format!("line 1: {told}");
        assert_eq!(findings(&text), [expected], "{line}");
        let hba = Hba::parse(text.as_bytes(), &mut no_files);
        assert_eq!(method(&hba, UNIX, "d", "u"), "md5", "{line}");
    }
}

/// Pieces that bring a random text near to a good one.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "local",
            "host",
            "hostssl",
            "all",
            "sameuser",
            "replication",
            ",",
            "\"",
            "#",
            "\n",
            "@f",
            "10.0.0.0/8",
            "::1/128",
            "255.0.0.0",
            "trust",
            "peer",
            "ldap",
            "map=m",
            "ldapserver=d",
            "ldapprefix=x",
        ])
        .prop_map(str::to_owned),
        Just(" ".to_owned()),
        "\\PC{0,6}",
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let hba = Hba::parse(&text, &mut |_| Ok(text.clone()));
        let _ = method(&hba, from("10.0.0.1"), "d", "u");
    }

    #[test]
    fn near_rules_are_read_without_panic(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = pieces.join(" ");
        let hba = Hba::parse(text.as_bytes(), &mut |_| Ok(b"a, \"b".to_vec()));
        for origin in [UNIX, from("10.0.0.1"), over_tls("::1")] {
            let _ = method(&hba, origin, "d", "u");
        }
    }

    #[test]
    fn quoted_names_stand_for_themselves(
        database in "[^\n]{0,10}", user in "[^\n]{0,10}", other in "[a-c+@/]{0,3}",
    ) {
        let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let hba = hba(&format!("local {} {} trust", quote(&database), quote(&user)));
        prop_assert_eq!(method(&hba, UNIX, &database, &user), "trust");
        let known = other == user;
        prop_assert_eq!(method(&hba, UNIX, &database, &other) == "trust", known);
    }

    #[test]
    fn a_network_holds_the_addresses_that_share_its_prefix(
        base in any::<u32>(), bits in 0u32..=32, address in any::<u32>(),
    ) {
        let hidden = 32 - bits;
        let cut = |ip: u32| ip.checked_shr(hidden).unwrap_or(0);
        let network = std::net::Ipv4Addr::from_bits(cut(base).checked_shl(hidden).unwrap_or(0));
        let hba = hba(&format!("host all all {network}/{bits} trust"));
        let address_text = std::net::Ipv4Addr::from_bits(address).to_string();
        let inside = method(&hba, from(&address_text), "d", "u") == "trust";
        prop_assert_eq!(inside, cut(base) == cut(address));
    }
}
