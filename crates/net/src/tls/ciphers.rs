//! Cipher suites, by OpenSSL's names and lists.

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite as suite;

use super::TlsSetupError;
use super::protocols::Protocols;

/// A suite that the library has, and the words of OpenSSL that mean it among others.
struct Known {
    name: &'static str,
    suite: SupportedCipherSuite,
    words: &'static [&'static str],
}

/// Suites of TLS 1.3, in the library's order.
static SUITES13: [Known; 3] = [
    Known {
        name: "TLS_AES_256_GCM_SHA384",
        suite: suite::TLS13_AES_256_GCM_SHA384,
        words: &[],
    },
    Known {
        name: "TLS_AES_128_GCM_SHA256",
        suite: suite::TLS13_AES_128_GCM_SHA256,
        words: &[],
    },
    Known {
        name: "TLS_CHACHA20_POLY1305_SHA256",
        suite: suite::TLS13_CHACHA20_POLY1305_SHA256,
        words: &[],
    },
];

/// Suites of TLS 1.3 that OpenSSL has and the library has not.
const FOREIGN13: [&str; 2] = ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"];

/// Suites of TLS 1.2, in the library's order.
static SUITES12: [Known; 6] = [
    Known {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        words: &["ECDSA", "aECDSA", "AES", "AESGCM", "AES256"],
    },
    Known {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        words: &["ECDSA", "aECDSA", "AES", "AESGCM", "AES128"],
    },
    Known {
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        suite: suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        words: &["ECDSA", "aECDSA", "CHACHA20"],
    },
    Known {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        suite: suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        words: &["aRSA", "AES", "AESGCM", "AES256"],
    },
    Known {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        suite: suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        words: &["aRSA", "AES", "AESGCM", "AES128"],
    },
    Known {
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        suite: suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        words: &["aRSA", "CHACHA20"],
    },
];

/// Words that mean every one of them.
const ALL_WORDS: [&str; 12] = [
    "ALL", "DEFAULT", "HIGH", "FIPS", "TLSv1.2", "ECDHE", "kECDHE", "EECDH", "kEECDH", "ECDH",
    "SECURE", "NORMAL",
];

/// The four settings' worth of suites of one side: their keys and their values.
pub(super) struct Lists<'a> {
    pub(super) key: String,
    pub(super) ciphers: &'a str,
    pub(super) key13: String,
    pub(super) ciphers13: &'a str,
}

/// The suites that are asked for and can be had, the best first.
pub(super) struct Suites {
    tls12: Vec<&'static Known>,
    tls13: Vec<&'static Known>,
}

impl Suites {
    /// Reads both lists.
    pub(super) fn parse(
        lists: &Lists<'_>,
        protocols: Protocols,
        warnings: &mut Vec<String>,
    ) -> Result<Self, TlsSetupError> {
        let mut list = List::default();
        match lists.ciphers.to_ascii_lowercase().as_str() {
            // PgBouncer's own words for what its library thinks best.
            "default" | "secure" | "fast" | "normal" | "all" | "" => list.add("ALL"),
            _ => lists
                .ciphers
                .split([':', ',', ';', ' '])
                .for_each(|word| list.item(word)),
        }
        let invalid = || TlsSetupError::Invalid(lists.key.clone(), lists.ciphers.to_owned());
        let List {
            chosen: tls12,
            named13,
            foreign,
            ..
        } = list;
        if !foreign.is_empty() {
            let names = foreign.join(", ");
            warnings.push(format!(
                "{}: there are no such ciphers here: {names}",
                lists.key
            ));
        }
        if tls12.is_empty() && (protocols.tls12 || named13.is_empty()) {
            return Err(invalid());
        }
        let tls13 = match lists.ciphers13 {
            "" if named13.is_empty() => SUITES13.iter().collect(),
            "" => named13,
            _ => parse13(lists, warnings)?,
        };
        Ok(Self { tls12, tls13 })
    }

    /// All of them for the library.
    pub(super) fn all(&self) -> Vec<SupportedCipherSuite> {
        let suites = self.tls13.iter().chain(&self.tls12);
        suites.map(|known| known.suite).collect()
    }
}

fn parse13(
    lists: &Lists<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<&'static Known>, TlsSetupError> {
    let refused = |name: &str| TlsSetupError::Suites(lists.key13.clone(), name.to_owned());
    let mut chosen: Vec<&Known> = Vec::new();
    for name in lists
        .ciphers13
        .split([':', ',', ' '])
        .filter(|name| !name.is_empty())
    {
        if FOREIGN13.contains(&name) {
            warnings.push(format!(
                "{}: there is no such cipher here: {name}",
                lists.key13
            ));
            continue;
        }
        let known = SUITES13.iter().find(|known| known.name == name);
        let known = known.ok_or_else(|| refused(name))?;
        if !chosen.iter().any(|it| it.name == known.name) {
            chosen.push(known);
        }
    }
    if chosen.is_empty() {
        return Err(refused(lists.ciphers13));
    }
    Ok(chosen)
}

/// OpenSSL's way to make a list: each item adds to it or takes from it.
#[derive(Default)]
struct List {
    chosen: Vec<&'static Known>,
    /// Taken out for good.
    banned: Vec<&'static str>,
    /// Suites of TLS 1.3, which OpenSSL does not look for here; those who name them mean them.
    named13: Vec<&'static Known>,
    /// Names of suites that the library has not.
    foreign: Vec<String>,
}

impl List {
    fn item(&mut self, item: &str) {
        let (sign, words) = match item.split_at_checked(1) {
            Some((sign @ ("!" | "-" | "+"), words)) => (sign, words),
            // `@STRENGTH` and `@SECLEVEL` order and forbid what is not here anyway.
            Some(("@", _)) | None => return,
            _ => ("", item),
        };
        match sign {
            "!" => {
                self.banned.extend(meant(words).map(|known| known.name));
                self.remove(words);
            }
            "-" => self.remove(words),
            "+" => {
                let (last, first) = std::mem::take(&mut self.chosen)
                    .into_iter()
                    .partition(|known| is_meant(known, words));
                self.chosen = first;
                let mut last: Vec<_> = last;
                self.chosen.append(&mut last);
            }
            _ => self.add(words),
        }
    }

    fn add(&mut self, words: &str) {
        if let Some(known) = SUITES13.iter().find(|known| known.name == words) {
            self.named13.push(known);
            return;
        }
        // Names of suites have dashes, words for several have none.
        if meant(words).next().is_none() && words.contains('-') {
            self.foreign.push(words.to_owned());
        }
        for known in meant(words) {
            let is_new = !self.chosen.iter().any(|it| it.name == known.name);
            if is_new && !self.banned.contains(&known.name) {
                self.chosen.push(known);
            }
        }
    }

    fn remove(&mut self, words: &str) {
        self.chosen.retain(|known| !is_meant(known, words));
    }
}

/// The suites that all of these words, joined by `+`, mean.
fn meant(words: &str) -> impl Iterator<Item = &'static Known> {
    SUITES12.iter().filter(move |known| is_meant(known, words))
}

fn is_meant(known: &Known, words: &str) -> bool {
    words
        .split('+')
        .all(|word| known.name == word || ALL_WORDS.contains(&word) || known.words.contains(&word))
}

/// OpenSSL's name of a suite.
pub(super) fn name(suite: SupportedCipherSuite) -> &'static str {
    let mut known = SUITES13.iter().chain(&SUITES12);
    let known = known.find(|known| known.suite == suite);
    known.map_or("-", |known| known.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECURE: Protocols = Protocols {
        tls12: true,
        tls13: true,
    };

    fn read(ciphers: &str, ciphers13: &str) -> String {
        read_for(SECURE, ciphers, ciphers13)
    }

    /// The suites in short, and the warnings.
    fn read_for(protocols: Protocols, ciphers: &str, ciphers13: &str) -> String {
        let lists = Lists {
            key: "ciphers".to_owned(),
            ciphers,
            key13: "ciphers13".to_owned(),
            ciphers13,
        };
        let mut warnings = Vec::new();
        match Suites::parse(&lists, protocols, &mut warnings) {
            Ok(suites) => {
                let short = |known: &&&Known| {
                    let name = known.name;
                    let parts = ["ECDHE-", "TLS_", "-POLY1305", "-GCM", "_POLY1305", "_GCM"];
                    let name = parts
                        .iter()
                        .fold(name.to_owned(), |n, part| n.replace(part, ""));
                    let hashes = ["_SHA256", "_SHA384", "-SHA256", "-SHA384"];
                    hashes
                        .iter()
                        .fold(name, |name, hash| name.replace(hash, ""))
                };
                let list = |suites: &[&Known]| {
                    let names: Vec<_> = suites.iter().map(|known| short(&known)).collect();
                    names.join(" ")
                };
                let warned: String = warnings.iter().map(|it| format!(" [{it}]")).collect();
                format!("{} | {}{warned}", list(&suites.tls13), list(&suites.tls12))
            }
            Err(error) => error.to_string(),
        }
    }

    const ALL13: &str = "AES_256 AES_128 CHACHA20";
    const ALL12: &str =
        "ECDSA-AES256 ECDSA-AES128 ECDSA-CHACHA20 RSA-AES256 RSA-AES128 RSA-CHACHA20";

    #[test]
    fn the_words_for_a_good_choice_mean_all_there_is() {
        for word in [
            "default", "secure", "fast", "normal", "all", "ALL", "DEFAULT", "HIGH",
        ] {
            assert_eq!(read(word, ""), format!("{ALL13} | {ALL12}"), "{word}");
        }
        let common = "HIGH:MEDIUM:+3DES:!aNULL";
        assert_eq!(read(common, ""), format!("{ALL13} | {ALL12}"));
    }

    #[test]
    fn a_list_adds_removes_bans_and_moves_to_the_end() {
        let only12 = |list: &str| read(list, "").split_once(" | ").unwrap().1.to_owned();
        assert_eq!(only12("ECDHE+AESGCM:!aECDSA"), "RSA-AES256 RSA-AES128");
        assert_eq!(
            only12("HIGH:-AES:ECDSA+AES128"),
            "ECDSA-CHACHA20 RSA-CHACHA20 ECDSA-AES128"
        );
        assert_eq!(only12("!AES256:aRSA"), "RSA-AES128 RSA-CHACHA20");
        assert_eq!(only12("aRSA:+AES256"), "RSA-AES128 RSA-CHACHA20 RSA-AES256");
        assert_eq!(
            only12("ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256"),
            "RSA-AES128"
        );
        assert_eq!(
            only12("ECDH+AESGCM:DH+AESGCM:@STRENGTH:!MD5")
                .split(' ')
                .count(),
            4
        );
    }

    #[test]
    fn ciphers_that_are_not_here_are_warned_of_and_nothing_at_all_is_refused() {
        assert_eq!(
            read("AES128-SHA:aRSA+CHACHA20", ""),
            format!("{ALL13} | RSA-CHACHA20 [ciphers: there are no such ciphers here: AES128-SHA]")
        );
        assert_eq!(read("blah", ""), "invalid ciphers: blah");
        assert_eq!(read("ALL:!ALL", ""), "invalid ciphers: ALL:!ALL");
    }

    #[test]
    fn suites_of_1_3_have_a_list_of_their_own() {
        assert_eq!(
            read("aRSA+CHACHA20", "TLS_AES_128_GCM_SHA256"),
            "AES_128 | RSA-CHACHA20"
        );
        assert_eq!(
            read(
                "HIGH",
                "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
            ),
            format!("CHACHA20 AES_256 | {ALL12}")
        );
        assert_eq!(
            read("HIGH", "TLS_NONE"),
            "failed to set the TLSv1.3 cipher suites: ciphers13: TLS_NONE"
        );
        assert_eq!(
            read("HIGH", "TLS_AES_128_CCM_SHA256"),
            "failed to set the TLSv1.3 cipher suites: ciphers13: TLS_AES_128_CCM_SHA256"
        );
    }

    #[test]
    fn whoever_names_suites_of_1_3_among_the_others_means_them() {
        let list = "TLS_AES_128_GCM_SHA256:aRSA+CHACHA20";
        assert_eq!(read(list, ""), "AES_128 | RSA-CHACHA20");
        let only13 = Protocols {
            tls12: false,
            tls13: true,
        };
        assert_eq!(read_for(only13, "TLS_AES_128_GCM_SHA256", ""), "AES_128 | ");
        assert_eq!(
            read("TLS_AES_128_GCM_SHA256", ""),
            "invalid ciphers: TLS_AES_128_GCM_SHA256"
        );
    }
}
