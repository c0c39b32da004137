//! `postgres://user:password@host:port/database?sslmode=require`

use zeroize::Zeroizing;

/// The parts of a URL, decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) user: Option<String>,
    pub(super) password: Option<Zeroizing<String>>,
    /// Separated by commas.
    pub(super) hosts: Option<String>,
    pub(super) port: Option<String>,
    pub(super) database: Option<String>,
    /// Behind the `?`, but for those that say what belongs into the fields above.
    pub(super) parameters: Vec<(String, String)>,
}

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
const SHAPE: &str = "postgres://user:password@host:port/database";
const NO_ESCAPE: &str = "%25 for a % in a URL, and %xx of UTF-8 for other characters";
const ONE_PORT: &str = "the same port for all hosts";

impl Url {
    /// Reads a URL; the error says what was expected, and shows nothing of it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
        let (rest, query) = split_query(rest.ok_or(SHAPE)?);
        // A password may hold any of the signs behind it, so the last @ is the one that counts.
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (hosts, database) = match place.split_once('/') {
            Some((hosts, database)) => (hosts, Some(database)),
            None => (place, None),
        };
        let mut url = Self::default();
        if let Some(login) = login {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            url.user = filled(user)?;
            url.password = password
                .map(filled)
                .transpose()?
                .flatten()
                .map(Zeroizing::new);
        }
        url.database = database.map(filled).transpose()?.flatten();
        url.take_hosts(hosts)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            url.take_parameter(decode(key)?, decode(value)?);
        }
        Ok(url)
    }

    fn take_hosts(&mut self, hosts: &str) -> Result<(), &'static str> {
        let mut names = Vec::new();
        let mut ports = Vec::new();
        for host in hosts.split(',').filter(|host| !host.is_empty()) {
            let (name, port) = split_port(host).ok_or(SHAPE)?;
            names.push(decode(name)?);
            ports.push(port);
        }
        if ports.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(ONE_PORT);
        }
        self.hosts = Some(names.join(",")).filter(|names| !names.is_empty());
        self.port = ports.first().copied().flatten().map(ToOwned::to_owned);
        Ok(())
    }

    fn take_parameter(&mut self, key: String, value: String) {
        match key.as_str() {
            "user" => self.user = Some(value),
            "password" => self.password = Some(Zeroizing::new(value)),
            "host" => self.hosts = Some(value),
            "port" => self.port = Some(value),
            "dbname" => self.database = Some(value),
            _ => self.parameters.push((key, value)),
        }
    }
}

/// Several URLs in one text: a comma parts them where another one begins.
pub(super) fn split_list(text: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    let mut start = 0;
    for (comma, _) in text.match_indices(',') {
        let next = text[comma + 1..].trim_start();
        if SCHEMES.iter().any(|scheme| next.starts_with(scheme)) {
            urls.push(&text[start..comma]);
            start = comma + 1;
        }
    }
    urls.push(&text[start..]);
    let trimmed = urls.into_iter().map(|url| url.trim().trim_end_matches(','));
    trimmed.filter(|url| !url.is_empty()).collect()
}

/// Cuts the query off, unless its `?` is one of a password.
fn split_query(text: &str) -> (&str, &str) {
    let is_key = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_pair = |pair: &str| pair.split_once('=').is_some_and(|(key, _)| is_key(key));
    let Some((before, query)) = text.rsplit_once('?') else {
        return (text, "");
    };
    // `user:p@ss?word=1@host/database` has pairs, too, but a place behind them.
    let has_place = query
        .rsplit_once('@')
        .is_some_and(|(_, rest)| rest.contains('/'));
    let is_query = before.contains('@') && query.split('&').all(is_pair) && !has_place;
    if is_query || !query.contains('@') {
        (before, query)
    } else {
        (text, "")
    }
}

/// Splits `host`, `host:port` or `[v6]:port`.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match rest.strip_prefix(':') {
        Some("") => Some((host, None)),
        Some(port) => Some((host, Some(port))),
        None => rest.is_empty().then_some((host, None)),
    }
}

fn filled(text: &str) -> Result<Option<String>, &'static str> {
    Ok(Some(decode(text)?).filter(|text| !text.is_empty()))
}

fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let (high, low) = (hex(*high)?, hex(*low)?);
                bytes.push(high * 16 + low);
                after
            }
            (b'%', _) => return Err(NO_ESCAPE),
            _ => {
                bytes.push(first);
                after
            }
        };
    }
    String::from_utf8(bytes).map_err(|_| NO_ESCAPE)
}

fn hex(digit: u8) -> Result<u8, &'static str> {
    let value = char::from(digit).to_digit(16).ok_or(NO_ESCAPE)?;
    u8::try_from(value).map_err(|_| NO_ESCAPE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn login(text: &str) -> (String, String) {
        let url = url(text);
        (url.user.unwrap(), url.password.unwrap().to_string())
    }

    #[test]
    fn all_parts_are_found() {
        let full = url("postgres://alice:secret@db.example:6543/app?sslmode=require&x=1");
        assert_eq!(full.user.as_deref(), Some("alice"));
        assert_eq!(full.password.as_ref().unwrap().as_str(), "secret");
        assert_eq!(full.hosts.as_deref(), Some("db.example"));
        assert_eq!(full.port.as_deref(), Some("6543"));
        assert_eq!(full.database.as_deref(), Some("app"));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            full.parameters,
            [pair("sslmode", "require"), pair("x", "1")]
        );

        let bare = url("postgresql://db");
        assert_eq!(bare.hosts.as_deref(), Some("db"));
        assert_eq!((bare.user, bare.port, bare.database), (None, None, None));
        assert_eq!(url("postgres://u:@h:/").port, None);
    }

    #[test]
    fn a_password_may_hold_every_sign_as_it_is_or_escaped() {
        let expected = ("alice".to_owned(), "p@:/?#%ä".to_owned());
        assert_eq!(
            login("postgres://alice:p%40%3A%2F%3F%23%25%c3%a4@h/app"),
            expected
        );
        assert_eq!(login("postgres://alice:p@:/?#%25ä@h/app"), expected);
        assert_eq!(
            login("postgres://alice:p@:/?#%25ä@h/app?sslmode=require"),
            expected
        );
        assert_eq!(
            login("postgres://a%40b:c@h/app?application_name=x@y"),
            ("a@b".into(), "c".into())
        );
    }

    #[test]
    fn what_looks_like_a_query_within_a_password_is_none() {
        let expected = ("u".to_owned(), "p@ss?word=1".to_owned());
        assert_eq!(login("postgres://u:p@ss?word=1@host/app"), expected);
    }

    #[test]
    fn addresses_sockets_and_lists_of_hosts_are_hosts() {
        assert_eq!(
            url("postgres://[::1]:5433/app").hosts.as_deref(),
            Some("::1")
        );
        assert_eq!(
            url("postgres://%2Frun%2Fpg/app").hosts.as_deref(),
            Some("/run/pg")
        );
        assert_eq!(
            url("postgres:///app?host=/run/pg").hosts.as_deref(),
            Some("/run/pg")
        );
        let two = url("postgres://a:1,b:1/app");
        assert_eq!(
            (two.hosts.as_deref(), two.port.as_deref()),
            (Some("a,b"), Some("1"))
        );
        assert_eq!(Url::parse("postgres://a:1,b:2/app"), Err(ONE_PORT));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "mysql://h/app",
            "h/app",
            "postgres://[::1/app",
            "postgres://[::1]5/app",
        ] {
            assert_eq!(Url::parse(text), Err(SHAPE), "{text}");
        }
        for text in [
            "postgres://a:100%@h",
            "postgres://a:%zz@h",
            "postgres://a:%ff@h",
        ] {
            assert_eq!(Url::parse(text), Err(NO_ESCAPE), "{text}");
        }
    }

    #[test]
    fn a_list_is_parted_where_urls_begin() {
        let list = "postgres://a:x,y@h1,h2/one,\n postgresql://b@h/two,";
        assert_eq!(
            split_list(list),
            ["postgres://a:x,y@h1,h2/one", "postgresql://b@h/two"]
        );
    }

    proptest! {
        #[test]
        fn any_login_survives_its_escapes(user in "\\PC{1,12}", password in "\\PC{1,12}") {
            let escaped = |text: &str| -> String {
                text.bytes().map(|byte| format!("%{byte:02X}")).collect()
            };
            let text = format!("postgres://{}:{}@h/app", escaped(&user), escaped(&password));
            prop_assert_eq!(login(&text), (user, password));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "(postgres://)?[a%:@/?&=,\\[\\]é ]{0,30}") {
            let _ = Url::parse(&text);
            let _ = split_list(&text);
        }
    }
}
