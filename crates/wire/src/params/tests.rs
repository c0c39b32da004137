//! Names get their places, and values their quotes.

use super::*;

fn params(names: &ParamNames, pairs: &[(&str, &str)]) -> Params {
    let mut params = Params::default();
    for (name, value) in pairs {
        params.set(names.find(name).unwrap(), value);
    }
    params
}

fn sql(names: &ParamNames, have: &[(&str, &str)], want: &[(&str, &str)]) -> String {
    let have = params(names, have);
    text(alignment(
        names,
        &have,
        &params(names, want),
        &Params::default(),
    ))
}

fn text(query: Option<Vec<u8>>) -> String {
    query.map_or_else(String::new, |bytes| {
        String::from_utf8(bytes[5..bytes.len() - 1].to_vec()).unwrap()
    })
}

#[test]
fn only_what_differs_and_is_known_on_both_sides_is_set() {
    let names = ParamNames::new(["IntervalStyle", "datestyle", "server_version"]);
    let have = [("timezone", "UTC"), ("DateStyle", "ISO, MDY")];
    assert_eq!(sql(&names, &have, &[("TimeZone", "utc")]), "");
    assert_eq!(sql(&names, &have, &[("IntervalStyle", "iso_8601")]), "");
    assert_eq!(
        sql(
            &names,
            &have,
            &[("TimeZone", "Asia/Tokyo"), ("DateStyle", "German")]
        ),
        "SET DateStyle='German';SET TimeZone='Asia/Tokyo';"
    );
}

#[test]
fn values_are_quoted_so_that_they_stay_values() {
    let names = ParamNames::new([]);
    let set = |name, value| sql(&names, &[(name, "other")], &[(name, value)]);
    assert_eq!(
        set("application_name", "o'hara\\'; drop"),
        "SET application_name=E'o''hara\\\\''; drop';"
    );
    assert_eq!(
        set("application_name", "\"\""),
        "SET application_name='\"\"';"
    );
    assert_eq!(
        set("search_path", "\"$user\", public"),
        "SELECT pg_catalog.set_config('search_path','\"$user\", public',false);"
    );
    assert_eq!(
        set("search_path", "a;drop table t;--'"),
        "SELECT pg_catalog.set_config('search_path','a;drop table t;--''',false);"
    );
}

#[test]
fn what_is_told_first_comes_first_and_each_name_once() {
    let names = ParamNames::new(["search_path", "geqo", "TIMEZONE", "is_superuser", ""]);
    let all: Vec<_> = names.iter().collect();
    assert_eq!(
        all,
        [
            "DateStyle",
            "client_encoding",
            "TimeZone",
            "standard_conforming_strings",
            "application_name",
            "search_path",
            "geqo",
            "IntervalStyle",
            "default_transaction_read_only",
        ]
    );
    let origin = |name: &str| names.origin(names.find(name)?);
    assert_eq!(origin("Search_Path"), Some(Origin::Asked));
    assert_eq!(origin("intervalstyle"), Some(Origin::Standard));
    assert_eq!(origin("work_mem"), None);
}

#[test]
fn what_servers_report_gets_a_place_for_ever_as_long_as_there_is_room() {
    let names = ParamNames::new([]);
    assert_eq!(names.track("Search_Path"), names.find("search_path"));
    assert_eq!(names.track("in_hot_standby"), None);
    for no_name in [&"x".repeat(64), "", "x;y", "x'y", "x y"] {
        assert_eq!(names.track(no_name), None, "{no_name}");
    }
    let place = names.track("app.flavour").unwrap();
    assert_eq!(names.track("APP.flavour"), Some(place));
    assert_eq!(names.origin(place), Some(Origin::Found));

    for number in 0..1000 {
        names.track(&format!("app.number_{number}"));
    }
    assert_eq!(names.iter().count(), NAMES_MAX);
    assert_eq!(names.find("app.flavour"), Some(place));
    assert_eq!(names.track("app.one_too_many"), None);
}

#[test]
fn a_parameter_that_nobody_knows_is_set_once_somebody_has_set_it() {
    let names = ParamNames::new([]);
    let place = names.track("other.version").unwrap();
    let (have, want) = ([("other.version", "1")], [("other.version", "2")]);
    assert_eq!(sql(&names, &have, &want), "");
    names.note_set(place);
    assert_eq!(sql(&names, &have, &want), "SET other.version='2';");
}

#[test]
fn what_a_client_never_heard_of_is_as_it_was_at_the_servers_login() {
    let names = ParamNames::new([]);
    let default = params(&names, &[("search_path", "public"), ("TimeZone", "UTC")]);
    let have = params(&names, &[("search_path", "theirs"), ("TimeZone", "UTC")]);
    let want = params(&names, &[("TimeZone", "CET")]);
    assert_eq!(
        text(alignment(&names, &have, &want, &default)),
        "SET TimeZone='CET';SELECT pg_catalog.set_config('search_path','public',false);"
    );
}

#[test]
fn a_client_settles_on_what_the_server_reports() {
    let names = ParamNames::new([]);
    let server = params(&names, &[("TimeZone", "UTC"), ("DateStyle", "ISO, MDY")]);
    let mut client = params(&names, &[("TimeZone", "CET"), ("IntervalStyle", "x")]);
    client.settle_on(&server);
    assert_eq!(
        client,
        params(&names, &[("TimeZone", "CET"), ("DateStyle", "ISO, MDY")])
    );
}

#[test]
fn who_settles_to_what_the_server_reports_is_told_beforehand() {
    let names = ParamNames::new([]);
    let server = params(&names, &[("TimeZone", "UTC"), ("DateStyle", "ISO, MDY")]);
    let clients: [&[(&str, &str)]; 6] = [
        &[],
        &[("TimeZone", "UTC")],
        &[("TimeZone", "UTC"), ("search_path", "a")],
        &[("TimeZone", "CET")],
        &[("DateStyle", "iso, mdy")],
        &[("DateStyle", "ISO, MDY"), ("application_name", "psql")],
    ];
    let settled = clients.map(|client| {
        let client = params(&names, client);
        let mut settled = client.clone();
        settled.settle_on(&server);
        assert_eq!(client.settle_to(&server), settled == server, "{client:?}");
        settled == server
    });
    assert_eq!(settled, [true, true, true, false, false, true]);
    let client = params(&names, &[("application_name", "psql")]);
    assert_eq!(&*client.application_name(), "psql");
    assert_eq!(&*server.application_name(), "");
}

#[test]
fn a_client_takes_the_servers_spelling_and_keeps_what_the_server_lacks() {
    let names = ParamNames::new([]);
    let server = params(&names, &[("TimeZone", "UTC"), ("client_encoding", "UTF8")]);
    let agreed = params(&names, &[("client_encoding", "utf-8")]);
    assert_eq!(server.completed_by(&agreed), None);
    let own = params(&names, &[("TimeZone", "utc"), ("search_path", "mine")]);
    let both = server.completed_by(&own).unwrap();
    let expected = [
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
        ("search_path", "mine"),
    ];
    assert_eq!(both, params(&names, &expected));

    let changes: Vec<_> = both.changes(&own, &names).collect();
    assert_eq!(
        changes,
        [
            ("client_encoding", None, "UTF8"),
            ("TimeZone", Some("utc"), "UTC"),
        ]
    );
}
