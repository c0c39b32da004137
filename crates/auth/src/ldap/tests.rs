use proptest::prelude::*;

use super::*;

fn read(text: &str) -> LdapOptions {
    LdapOptions::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn fault(text: &str) -> String {
    LdapOptions::parse(text).unwrap_err().to_string()
}

fn servers(options: &LdapOptions) -> Vec<String> {
    let servers = options.servers.iter();
    let shown = servers.map(|server| format!("{} {}", server.host, server.port));
    shown.collect()
}

fn name_of(options: &LdapOptions, user: &str) -> String {
    match &options.lookup {
        Lookup::Name(name) => name.of(user),
        Lookup::Search(_) => panic!("a search"),
    }
}

fn search(text: &str) -> Search {
    match read(text).lookup {
        Lookup::Search(search) => search,
        Lookup::Name(_) => panic!("{text}: no search"),
    }
}

#[test]
fn a_name_may_stand_between_a_prefix_and_a_suffix() {
    let options = read(r#"ldapserver=dir ldapprefix="uid=" ldapsuffix=", ou=people, dc=x""#);
    assert_eq!(servers(&options), ["dir 389"]);
    assert_eq!(options.encryption, LdapEncryption::None);
    assert_eq!(name_of(&options, "alice"), "uid=alice, ou=people, dc=x");

    let options = read("ldapserver=dir ldapsuffix=@corp.example");
    assert_eq!(name_of(&options, "alice"), "alice@corp.example");
}

#[test]
fn a_search_goes_by_uid_by_an_attribute_or_by_a_filter() {
    let told = |more: &str| {
        let found = search(&format!("ldapserver=dir ldapbasedn=dc=x {more}"));
        found.filter_for("alice")
    };
    assert_eq!(told(""), "(uid=alice)");
    assert_eq!(told("ldapsearchattribute=mail"), "(mail=alice)");
    assert_eq!(
        told(r#"ldapsearchfilter="(|(uid=$username)(mail=$username))""#),
        "(|(uid=alice)(mail=alice))"
    );
    assert_eq!(told("ldapsearchfilter=cn=$username"), "(cn=alice)");
}

#[test]
fn a_search_may_be_made_as_somebody() {
    let found =
        search(r#"ldapserver=d ldapbasedn=dc=x ldapbinddn="cn=we, dc=x" ldapbindpasswd=p#1"#);
    let (name, password) = found.bind.unwrap();
    assert_eq!(name, "cn=we, dc=x");
    assert_eq!(password.as_bytes(), b"p#1");
    assert_eq!(found.scope, LdapScope::Subtree);
    assert_eq!(search("ldapserver=d ldapbasedn=dc=x").bind, None);
}

#[test]
fn a_name_can_not_change_the_filter() {
    let found = search("ldapserver=d ldapbasedn=dc=x");
    assert_eq!(
        found.filter_for("*)(uid=admin\\"),
        "(uid=\\2a\\29\\28uid=admin\\5c)"
    );
    // Nor is a placeholder within it filled in again.
    assert_eq!(found.filter_for("$username"), "(uid=$username)");
}

#[test]
fn an_url_says_it_all_at_once() {
    let text = "ldapurl=\"ldaps://dir.example:1636/ou=a%20b,dc=x?mail?one?\"";
    let options = read(text);
    assert_eq!(servers(&options), ["dir.example 1636"]);
    assert_eq!(options.encryption, LdapEncryption::Tls);
    let found = search(text);
    assert_eq!(found.base, "ou=a b,dc=x");
    assert_eq!(found.scope, LdapScope::One);
    assert_eq!(found.filter_for("alice"), "(mail=alice)");

    let found = search("ldapurl=ldap://[::1]/dc=x??sub?(cn=$username)");
    assert_eq!(found.filter_for("alice"), "(cn=alice)");
    assert_eq!(servers(&read("ldapurl=ldap://[::1]/dc=x")), ["::1 389"]);
    assert_eq!(search("ldapurl=ldap://d/dc=x").scope, LdapScope::Base);
}

#[test]
fn encryption_is_asked_for_in_three_ways() {
    let told = |more: &str| {
        let options = read(&format!("ldapserver=d ldapprefix=uid= {more}"));
        (options.encryption, options.servers[0].port)
    };
    assert_eq!(told("ldaptls=1"), (LdapEncryption::StartTls, 389));
    assert_eq!(told("ldapscheme=ldaps"), (LdapEncryption::Tls, 636));
    assert_eq!(
        told("ldapscheme=ldaps ldapport=77 ldaptls=1"),
        (LdapEncryption::Tls, 77)
    );
    assert_eq!(
        told("ldapscheme=ldap ldaptls=0"),
        (LdapEncryption::None, 389)
    );
}

#[test]
fn several_servers_are_tried_in_their_order() {
    let options = read(r#"ldapserver="one two ::1" ldapport=77 ldapprefix=uid="#);
    assert_eq!(servers(&options), ["one 77", "two 77", "::1 77"]);
}

#[test]
fn names_may_be_long_and_foreign() {
    let suffix = format!(",ou={},dc=例え", "ü".repeat(300));
    let options = read(&format!("ldapserver=d ldapprefix=uid= ldapsuffix={suffix}"));
    assert_eq!(name_of(&options, "zoë"), format!("uid=zoë{suffix}"));
}

#[test]
fn every_fault_says_what_is_wrong_and_no_secret() {
    for (text, told) in [
        ("", "ldapserver or ldapurl is missing"),
        (
            "ldapserver=d",
            "ldapbasedn, ldapprefix or ldapsuffix is missing",
        ),
        (
            "ldapserver=d ldapprefix=a ldapbindpasswd=hush",
            "ldapprefix and ldapsuffix can't be used together with what searches need",
        ),
        (
            "ldapserver=d ldapbasedn=x ldapsearchattribute=a ldapsearchfilter=(b=c)",
            "ldapsearchattribute can't be used together with ldapsearchfilter",
        ),
        ("ldappassword=hush", "\"ldappassword\" is no LDAP option"),
        (
            "ldapserver=d ldapbindpasswd=hush hush",
            "expected LDAP options, key=value or key=\"value with blanks\"",
        ),
        ("ldapport=0", "ldapport: expected a number from 1 to 65535"),
        (
            "ldapport=65536",
            "ldapport: expected a number from 1 to 65535",
        ),
        ("ldapscheme=http", "ldapscheme: expected ldap or ldaps"),
        ("ldaptls=yes", "ldaptls: expected 0 or 1"),
        (
            "ldapserver=a/b ldapprefix=x",
            "ldapserver: expected names or addresses, parted by blanks",
        ),
        (
            "ldapurl=ldap:d",
            "ldapurl: expected ldap[s]://host[:port]/base[?attribute[?scope[?filter]]]",
        ),
        (
            "ldapurl=ldap://d/%zz",
            "ldapurl: expected ldap[s]://host[:port]/base[?attribute[?scope[?filter]]]",
        ),
        (
            "ldapurl=ldap://d/x??far",
            "ldapurl: expected base, one or sub as its scope",
        ),
        ("ldapurl=ldap:///dc=x", "ldapserver or ldapurl is missing"),
        ("ldapprefix=\"a", "a quote is not closed"),
    ] {
        assert_eq!(fault(text), told, "{text}");
    }
    let options = read("ldapserver=d ldapbasedn=x ldapbinddn=y ldapbindpasswd=hush");
    assert!(!format!("{options:?}").contains("hush"));
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "(ldap[a-z]{0,12}=|[ \"%?:/]|\\PC){0,40}") {
        let _ = LdapOptions::parse(&text);
    }

    #[test]
    fn near_urls_never_panic(text in "ldaps?://[a-z:\\[\\]0-9]{0,8}(/[a-z=%,0-9é]{0,9})?(\\?[a-z%()=$]{0,6}){0,5}") {
        let _ = LdapOptions::parse(&format!("ldapurl={text}"));
    }

    #[test]
    fn an_escaped_name_holds_no_syntax(user in "\\PC{0,20}") {
        let filter = search("ldapserver=d ldapbasedn=x").filter_for(&user);
        let inner = filter.strip_prefix("(uid=").unwrap().strip_suffix(')').unwrap();
        prop_assert!(!inner.contains(['(', ')', '*']));
    }
}
