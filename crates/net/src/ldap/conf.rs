//! OpenLDAP's own settings for clients, as far as they concern us.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Where systems have the file that holds for everybody.
const SYSTEM_FILES: [&str; 2] = ["/etc/ldap/ldap.conf", "/etc/openldap/ldap.conf"];

/// Longest time for connecting, and for each answer, if nobody says otherwise: no thread may hang
/// on a server that says nothing.
const PATIENCE: Duration = Duration::from_secs(15);

/// Settings for clients.
#[derive(Debug, PartialEq)]
pub(super) struct Conf {
    /// A file of authorities to trust.
    pub(super) ca_file: Option<PathBuf>,
    /// A directory of them.
    pub(super) ca_dir: Option<PathBuf>,
    /// Whether a server's certificate must be good.
    pub(super) verifies: bool,
    /// Longest time for connecting, TLS included.
    pub(super) connect_timeout: Duration,
    /// Longest time for an answer.
    pub(super) answer_timeout: Duration,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            ca_file: None,
            ca_dir: None,
            verifies: true,
            connect_timeout: PATIENCE,
            answer_timeout: PATIENCE,
        }
    }
}

impl Conf {
    /// Reads the files, then the variables; what comes later wins.
    pub(super) fn load(env: &[(String, String)]) -> Self {
        let variable = |name: &str| {
            let found = env.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let mut conf = Self::default();
        if variable("LDAPNOINIT").is_some() {
            return conf;
        }
        for path in SYSTEM_FILES.into_iter().chain(variable("LDAPCONF")) {
            // As OpenLDAP does it: a file that is not there says nothing.
            conf.take_lines(&fs::read(path).unwrap_or_default());
        }
        for (key, value) in env {
            if let Some(key) = key.strip_prefix("LDAP") {
                conf.take(key, value);
            }
        }
        conf
    }

    fn take_lines(&mut self, text: &[u8]) {
        for line in String::from_utf8_lossy(text).lines() {
            let line = line.trim();
            if let Some((key, value)) = line.split_once(char::is_whitespace)
                && !line.starts_with('#')
            {
                self.take(key, value.trim());
            }
        }
    }

    fn take(&mut self, key: &str, value: &str) {
        let path = || Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty());
        match key.to_ascii_uppercase().as_str() {
            "TLS_CACERT" => self.ca_file = path(),
            "TLS_CACERTDIR" => self.ca_dir = path(),
            // With `try`, too, a bad certificate is the end.
            "TLS_REQCERT" => {
                let asks_less = |word| value.eq_ignore_ascii_case(word);
                self.verifies = !["never", "allow"].into_iter().any(asks_less);
            }
            "NETWORK_TIMEOUT" => self.connect_timeout = seconds(value),
            "TIMEOUT" => self.answer_timeout = seconds(value),
            _ => {}
        }
    }
}

/// A number of seconds; what means "for ever" is our own patience.
fn seconds(text: &str) -> Duration {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.map_or(PATIENCE, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Conf {
        let mut conf = Conf::default();
        conf.take_lines(text.as_bytes());
        conf
    }

    #[test]
    fn a_file_names_authorities_and_patience() {
        let conf = read("# x\n\nTLS_CACERT\t/ca.pem \ntls_reqcert never\nTIMEOUT 3\nBASE dc=x\n");
        let expected = Conf {
            ca_file: Some("/ca.pem".into()),
            verifies: false,
            answer_timeout: Duration::from_secs(3),
            ..Conf::default()
        };
        assert_eq!(conf, expected);
    }

    #[test]
    fn only_never_and_allow_take_a_bad_certificate() {
        for (word, verifies) in [
            ("never", false),
            ("Allow", false),
            ("try", true),
            ("demand", true),
            ("hard", true),
            ("neverr", true),
        ] {
            assert_eq!(
                read(&format!("TLS_REQCERT {word}")).verifies,
                verifies,
                "{word}"
            );
        }
    }

    #[test]
    fn for_ever_is_not_that_long() {
        let conf = read("NETWORK_TIMEOUT -1\nTIMEOUT 0");
        assert_eq!(conf, Conf::default());
    }

    #[test]
    fn variables_beat_files_and_may_forbid_them() {
        let env = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
            pairs.iter().map(own).collect()
        };
        let given = env(&[
            ("LDAPTLS_CACERT", "/mine.pem"),
            ("LDAPTLS_REQCERT", "allow"),
        ]);
        let conf = Conf::load(&given);
        assert_eq!(conf.ca_file, Some("/mine.pem".into()));
        assert!(!conf.verifies);

        let given = env(&[("LDAPTLS_REQCERT", "never"), ("LDAPNOINIT", "1")]);
        assert_eq!(Conf::load(&given), Conf::default());
    }
}
