//! Settings that are one word out of a few.

use std::fmt;

use crate::values::SettingValue;

/// Defines an enum whose variants are words of the ini file, in any letter case.
macro_rules! choice {
    (
        $(#[$doc:meta])*
        $name:ident, $expects:literal {
            $( $(#[$variant_doc:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$variant_doc])* $variant, )+
        }

        impl $name {
            /// The word for it in the ini file and in SHOW tables.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl SettingValue for $name {
            const EXPECTS: &'static str = $expects;

            fn parse(text: &str) -> Option<Self> {
                [$( Self::$variant, )+]
                    .into_iter()
                    .find(|choice| choice.as_str().eq_ignore_ascii_case(text))
            }

            fn show(&self) -> Option<String> {
                Some(self.as_str().to_owned())
            }
        }
    };
}

choice! {
    /// How clients prove who they are.
    AuthType, "any, trust, plain, md5, scram-sha-256, cert, hba, ldap or pam" {
        /// No check, and every client becomes the database's forced user.
        Any = "any",
        /// No check beyond the user's existence.
        Trust = "trust",
        /// The password as it is.
        Plain = "plain",
        /// MD5, or SCRAM for users whose secret asks for it.
        Md5 = "md5",
        /// SCRAM-SHA-256.
        ScramSha256 = "scram-sha-256",
        /// A TLS client certificate.
        Cert = "cert",
        /// Whatever the HBA file says.
        Hba = "hba",
        /// A bind at an LDAP server.
        Ldap = "ldap",
        /// The system's PAM stack.
        Pam = "pam",
    }
}

choice! {
    /// How a prepared statement's name is refused.
    StatementErrors, "pgbouncer or postgres" {
        /// With the end of the session.
        PgBouncer = "pgbouncer",
        /// With the server's own error.
        Postgres = "postgres",
    }
}

choice! {
    /// When a server goes back to the pool.
    PoolMode, "session, transaction or statement" {
        /// When the client leaves.
        Session = "session",
        /// After each transaction.
        Transaction = "transaction",
        /// After each statement; transactions over several are refused.
        Statement = "statement",
    }
}

choice! {
    /// How much TLS is asked for.
    SslMode, "disable, allow, prefer, require, verify-ca or verify-full" {
        /// Never.
        Disable = "disable",
        /// If the peer wants it.
        Allow = "allow",
        /// If the peer can.
        Prefer = "prefer",
        /// Always, whoever the peer is.
        Require = "require",
        /// Always, with a valid certificate.
        VerifyCa = "verify-ca",
        /// Always, with a valid certificate for the peer's name.
        VerifyFull = "verify-full",
    }
}

choice! {
    /// How the log is written.
    LogFormat, "pgbouncer or json" {
        /// As PgBouncer's lines.
        PgBouncer = "pgbouncer",
        /// As an object of JSON's for each line.
        Json = "json",
    }
}

choice! {
    /// How TLS with a server begins.
    TlsNegotiation, "postgres or direct" {
        /// By asking the server for it.
        Postgres = "postgres",
        /// At once, as PostgreSQL 17 and later understand it.
        Direct = "direct",
    }
}

choice! {
    /// Which of several hosts a new server connection goes to.
    LoadBalanceHosts, "round-robin or disable" {
        /// The next one each time.
        RoundRobin = "round-robin",
        /// The same one until it fails.
        Disable = "disable",
    }
}
