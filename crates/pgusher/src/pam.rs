//! Asks the system's PAM stack whether a user's password is right.
//!
//! This blocks for as long as the modules of the stack like: it is meant for threads on which
//! nobody waits.

use auth::Password;
use thiserror::Error;

/// Whether this program was built with PAM.
pub(crate) const IS_BUILT_IN: bool = cfg!(all(feature = "pam", target_os = "linux"));

/// Why a user is not let in.
#[derive(Debug, Error)]
#[cfg_attr(not(all(feature = "pam", target_os = "linux")), expect(dead_code))]
pub(crate) enum PamError {
    /// The stack says no to this user.
    #[error("{0}")]
    Refused(String),
    /// The stack could not be asked.
    #[error("{0}")]
    NoAnswer(String),
    /// The program was built without.
    #[error("this pgusher was built without PAM")]
    NotBuiltIn,
}

/// Returns if the password is the user's, and the account may be used. `from` is where the client
/// comes from.
#[cfg(not(all(feature = "pam", target_os = "linux")))]
pub(crate) fn check(_: &str, _: &Password, _: Option<&str>) -> Result<(), PamError> {
    Err(PamError::NotBuiltIn)
}

#[cfg(all(feature = "pam", target_os = "linux"))]
pub(crate) use self::stack::check;

#[cfg(all(feature = "pam", target_os = "linux"))]
mod stack {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;

    use nonstick::conv::{Conversation, Exchange};
    use nonstick::items::ItemsMut;
    use nonstick::{AuthnFlags, ErrorCode, PamShared, Transaction, TransactionBuilder};

    use super::{PamError, Password};

    /// The name of our stack in `/etc/pam.d`: PgBouncer's, for it is there already.
    const SERVICE: &str = "pgbouncer";

    /// Returns if the password is the user's, and the account may be used. `from` is where the
    /// client comes from.
    pub(crate) fn check(
        user: &str,
        password: &Password,
        from: Option<&str>,
    ) -> Result<(), PamError> {
        // Strings end with a zero over there.
        if user.contains('\0') || password.as_bytes().contains(&0) {
            return Err(PamError::Refused("a zero in the name or password".into()));
        }
        let answers = Answers {
            user: user.to_owned(),
            password: password.clone(),
        };
        ask(answers, from).map_err(|code| match code {
            ErrorCode::AuthenticationError
            | ErrorCode::UserUnknown
            | ErrorCode::PermissionDenied
            | ErrorCode::MaxTries
            | ErrorCode::AccountExpired
            | ErrorCode::NewAuthTokRequired
            | ErrorCode::CredentialsExpired
            | ErrorCode::AuthTokExpired => PamError::Refused(code.to_string()),
            code => PamError::NoAnswer(code.to_string()),
        })
    }

    fn ask(answers: Answers, from: Option<&str>) -> nonstick::Result<()> {
        let builder = TransactionBuilder::new_with_service(SERVICE).username(&answers.user);
        let mut transaction = builder.build(answers)?;
        if let Some(host) = from {
            let host = Some(OsStr::new(host));
            transaction.items_mut().set_remote_host(host)?;
        }
        transaction.authenticate(AuthnFlags::empty())?;
        transaction.account_management(AuthnFlags::empty())
    }

    /// What we say when a module asks.
    struct Answers {
        user: String,
        password: Password,
    }

    impl Conversation for Answers {
        fn communicate(&self, messages: &[Exchange]) {
            for message in messages {
                match message {
                    Exchange::MaskedPrompt(ask) => {
                        let password = OsStr::from_bytes(self.password.as_bytes());
                        ask.set_answer(Ok(password.to_owned()));
                    }
                    Exchange::Prompt(ask) => ask.set_answer(Ok(OsString::from(&self.user))),
                    Exchange::Error(told) => {
                        let text = told.question().to_string_lossy();
                        tracing::warn!("PAM, about {:?}: {text}", self.user);
                        told.set_answer(Ok(()));
                    }
                    Exchange::Info(told) => {
                        let text = told.question().to_string_lossy();
                        tracing::debug!("PAM, about {:?}: {text}", self.user);
                        told.set_answer(Ok(()));
                    }
                    other => other.set_error(ErrorCode::ConversationError),
                }
            }
        }
    }
}
