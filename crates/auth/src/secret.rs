//! Secrets: what is kept to recognise a user, or to log in as one.
//!
//! They print as their kind only, compare in constant time, and are wiped when dropped.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::md5::Md5Secret;
use crate::scram::Verifier;

/// The longest password that works, in bytes; a longer one matches nothing.
pub const PASSWORD_LEN_MAX: usize = 65_530;

/// What is kept of a user's password.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself; a blank one lets nobody in.
    Plain(Password),
    /// Its MD5 hash, salted with the user name.
    Md5(Md5Secret),
    /// Its SCRAM-SHA-256 verifier.
    Scram(Verifier),
}

impl Secret {
    /// Reads a secret as PostgreSQL stores it: `md5…`, `SCRAM-SHA-256$…`, or else the password.
    pub fn parse(text: &[u8]) -> Self {
        if let Some(hash) = Md5Secret::parse(text) {
            return Self::Md5(hash);
        }
        if let Some(verifier) = Verifier::parse(text) {
            return Self::Scram(verifier);
        }
        if text.len() > PASSWORD_LEN_MAX {
            return Self::blank();
        }
        Self::Plain(Password::new(text))
    }

    /// The secret of a user who is known, but has no password.
    pub fn blank() -> Self {
        Self::Plain(Password::new(""))
    }

    /// The text that [`Self::parse`] reads: as good as the password to whoever has it.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Plain(password) => password.as_bytes().to_vec(),
            Self::Md5(hash) => hash.encode().to_vec(),
            Self::Scram(verifier) => verifier.encode().as_bytes().to_vec(),
        })
    }

    /// True if no password can match.
    pub fn is_blank(&self) -> bool {
        matches!(self, Self::Plain(password) if password.is_empty())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) if self.is_blank() => "Blank",
            Self::Plain(_) => "Plain(…)",
            Self::Md5(_) => "Md5(…)",
            Self::Scram(_) => "Scram(…)",
        })
    }
}

/// A password in clear.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Keeps a password.
    pub fn new(password: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(password.into()))
    }

    /// The password itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True if there is no password at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn kind(text: &str) -> String {
        format!("{:?}", Secret::parse(text.as_bytes()))
    }

    #[test]
    fn a_secret_is_told_by_its_shape() {
        assert_eq!(kind(VERIFIER), "Scram(…)");
        assert_eq!(kind("md5e8a48653851e28c69d0506508fb27fc5"), "Md5(…)");
        assert_eq!(kind("secret"), "Plain(…)");
        assert_eq!(kind(""), "Blank");
    }

    #[test]
    fn a_secret_is_written_as_it_is_read() {
        for text in [
            VERIFIER,
            "md5e8a48653851e28c69d0506508fb27fc5",
            "secret",
            "",
        ] {
            let secret = Secret::parse(text.as_bytes());
            assert_eq!(**secret.encode(), *text.as_bytes());
            assert_eq!(Secret::parse(&secret.encode()), secret);
        }
    }

    #[test]
    fn what_only_resembles_a_hash_is_a_password() {
        assert_eq!(kind("md5"), "Plain(…)");
        assert_eq!(kind("md5E8A48653851E28C69D0506508FB27FC5"), "Plain(…)");
        assert_eq!(kind("md5e8a48653851e28c69d0506508fb27fc55"), "Plain(…)");
        assert_eq!(kind(&VERIFIER[..VERIFIER.len() - 1]), "Plain(…)");
        assert_eq!(kind("SCRAM-SHA-256$4096"), "Plain(…)");
    }

    #[test]
    fn nothing_of_a_secret_is_printed() {
        assert_eq!(format!("{:?}", Password::new("hush")), "Password(…)");
        assert!(!kind("hush").contains("hush"));
        assert!(!kind(VERIFIER).contains("W22"));
    }

    #[test]
    fn a_password_over_the_limit_lets_nobody_in() {
        assert!(!Secret::parse(&[b'x'; PASSWORD_LEN_MAX]).is_blank());
        assert!(Secret::parse(&[b'x'; PASSWORD_LEN_MAX + 1]).is_blank());
    }

    #[test]
    fn secrets_are_equal_only_to_themselves() {
        let texts = [
            VERIFIER,
            "md5e8a48653851e28c69d0506508fb27fc5",
            "secret",
            "",
        ];
        for (i, one) in texts.iter().enumerate() {
            for (j, other) in texts.iter().enumerate() {
                let equal = Secret::parse(one.as_bytes()) == Secret::parse(other.as_bytes());
                assert_eq!(equal, i == j, "{one} {other}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_secret(text in any::<Vec<u8>>()) {
            let _ = Secret::parse(&text);
        }

        #[test]
        fn near_verifiers_never_panic(
            text in "SCRAM-SHA-256\\$[0-9+-]{0,12}:[A-Za-z0-9+/=]{0,50}\\$[A-Za-z0-9+/=:]{0,90}"
        ) {
            let _ = Secret::parse(text.as_bytes());
        }
    }
}
