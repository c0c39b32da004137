//! Answers a server that wants to know who logs in.
//!
//! ```text
//! Begin ─┬─ Ok ────────────────────────────────────────────────────────────────────────▶ Done
//!        ├─ Cleartext, Md5 ── Answered ── Ok ──────────────────────────────────────────▶ Done
//!        └─ Sasl ── First ─┬──────────────────────── Final ── SaslFinal ── Answered ── Ok ─▶ Done
//!                          └─ Derive ── Keys ────────┘
//! ```

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use wire::authentication::{AuthRequest, SaslInitialResponse, put_password, put_sasl_response};

use crate::derive::{Derived, Job};
use crate::md5::Md5Secret;
use crate::random::Nonce;
use crate::scram::{
    AwaitedSignature, ChannelBinding, ClientExchange, MECHANISM, MECHANISM_PLUS, ScramError,
    ScramKeys, ServerChallenge,
};
use crate::secret::{Password, Secret};

/// What we have to log in with.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The user's secret: in clear it answers everything, as an MD5 hash only MD5.
    pub secret: Option<Secret>,
    /// The user's keys from a login to us: they answer SCRAM.
    pub scram_keys: Option<ScramKeys>,
    /// Keys derived earlier from the secret, if any: used only if they still fit.
    pub cached: Option<Arc<Derived>>,
}

/// What to do next.
pub enum Reply {
    /// Send this whole message.
    Send(Vec<u8>),
    /// Run this elsewhere, then hand the result to [`Initiator::derived`].
    Derive(Job),
    /// Nothing to send: the server speaks next.
    Wait,
    /// Logged in.
    Done,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(_) => "Send(…)",
            Self::Derive(_) => "Derive(…)",
            Self::Wait => "Wait",
            Self::Done => "Done",
        })
    }
}

/// Why we do not go on; the text stands behind `server login failed: `.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The server wants something that our secret cannot answer.
    #[error("wrong password type")]
    WrongPasswordType,
    /// SASL, but not SCRAM-SHA-256, or only bound to a connection that can't be bound to.
    #[error("none of the server's SASL authentication mechanisms are supported")]
    NoMechanism,
    /// A method that is not spoken here.
    #[error("unsupported authentication method {0}")]
    UnsupportedMethod(u32),
    /// A challenge that cannot be answered.
    #[error("{0}")]
    Scram(ScramError),
    /// The server does not have the user's key: it is not the one it pretends to be.
    #[error("invalid server signature")]
    InvalidServerSignature,
    /// The server did not prove itself.
    #[error("failed to verify server signature")]
    UnverifiedServer,
    /// A message or a result that nobody waited for.
    #[error("unexpected authentication message")]
    OutOfTurn,
}

/// Logs in to one server.
pub struct Initiator {
    user: String,
    credentials: Credentials,
    end_point: Option<Arc<[u8]>>,
    state: State,
}

enum State {
    /// The server has not asked yet.
    Begin { nonce: Nonce },
    /// The server's challenge is due.
    First {
        exchange: ClientExchange,
        means: Means,
    },
    /// The keys are due.
    Keys {
        job: Job,
        challenge: ServerChallenge,
    },
    /// The server's signature is due.
    Final(AwaitedSignature),
    /// Nothing is owed to either side; the server's verdict is due.
    Answered,
    /// Logged in, or given up.
    Over,
}

/// What answers a SCRAM challenge.
enum Means {
    Password(Password),
    Keys(ScramKeys),
}

impl Initiator {
    /// Prepares to log in as `user`.
    pub fn new(user: &str, credentials: Credentials, nonce: Nonce) -> Self {
        Self {
            user: user.to_owned(),
            credentials,
            end_point: None,
            state: State::Begin { nonce },
        }
    }

    /// The connection is encrypted, and this is the hash of the certificate that the server has
    /// shown: the login is bound to it if the server can.
    pub fn bound_to(self, end_point: Option<Arc<[u8]>>) -> Self {
        Self { end_point, ..self }
    }

    /// Answers an authentication message of the server.
    pub fn on(&mut self, request: AuthRequest) -> Result<Reply, LoginError> {
        let (state, reply) = match (std::mem::replace(&mut self.state, State::Over), request) {
            (State::Begin { nonce }, request) => self.begin(nonce, request)?,
            (State::First { exchange, means }, AuthRequest::SaslContinue(data)) => {
                let challenge = exchange.challenged(&data).map_err(LoginError::Scram)?;
                self.answer(challenge, means)
            }
            (State::Final(awaited), AuthRequest::SaslFinal(data)) => {
                verify(&awaited, &data)?;
                (State::Answered, Reply::Wait)
            }
            // Whoever lets us in without a signature may know nothing of the user.
            (State::First { .. } | State::Keys { .. } | State::Final(_), AuthRequest::Ok) => {
                return Err(LoginError::UnverifiedServer);
            }
            (State::Answered, AuthRequest::Ok) => (State::Over, Reply::Done),
            _ => return Err(LoginError::OutOfTurn),
        };
        self.state = state;
        Ok(reply)
    }

    /// Takes the result of the job last given out.
    pub fn derived(&mut self, derived: &Derived) -> Result<Reply, LoginError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Keys { job, challenge } if job.is_done_by(derived) => {
                let (state, reply) = prove(&challenge, derived.keys());
                self.state = state;
                Ok(reply)
            }
            _ => Err(LoginError::OutOfTurn),
        }
    }

    fn begin(&self, nonce: Nonce, request: AuthRequest) -> Result<(State, Reply), LoginError> {
        match request {
            AuthRequest::Ok => Ok((State::Over, Reply::Done)),
            AuthRequest::CleartextPassword => match &self.credentials.secret {
                Some(Secret::Plain(password)) => Ok(send_password(password.as_bytes())),
                _ => Err(LoginError::WrongPasswordType),
            },
            AuthRequest::Md5Password { salt } => {
                let hash = match &self.credentials.secret {
                    Some(Secret::Plain(password)) => Md5Secret::from_password(password, &self.user),
                    Some(Secret::Md5(hash)) => hash.clone(),
                    _ => return Err(LoginError::WrongPasswordType),
                };
                Ok(send_password(&hash.response(salt).encode()))
            }
            AuthRequest::Sasl { mechanisms } => self.begin_scram(nonce, &mechanisms),
            AuthRequest::SaslContinue(_) | AuthRequest::SaslFinal(_) => Err(LoginError::OutOfTurn),
            AuthRequest::Unsupported(code) => Err(LoginError::UnsupportedMethod(code)),
        }
    }

    fn begin_scram(
        &self,
        nonce: Nonce,
        mechanisms: &[Cow<'static, str>],
    ) -> Result<(State, Reply), LoginError> {
        let (mechanism, binding) = [MECHANISM_PLUS, MECHANISM]
            .into_iter()
            .filter(|mechanism| mechanisms.iter().any(|offered| offered == mechanism))
            .find_map(|it| Some((it, ChannelBinding::of(it, self.end_point.as_ref())?)))
            .ok_or(LoginError::NoMechanism)?;
        // The password fits whatever salt the server has; keys fit only the verifier they are of.
        let means = match (&self.credentials.secret, &self.credentials.scram_keys) {
            (Some(Secret::Plain(password)), None) => Means::Password(password.clone()),
            (Some(Secret::Plain(password)), _) if !password.is_empty() => {
                Means::Password(password.clone())
            }
            (_, Some(keys)) => Means::Keys(keys.clone()),
            (_, None) => return Err(LoginError::WrongPasswordType),
        };
        let (exchange, client_first) = ClientExchange::begin(nonce, binding);
        let mut message = Vec::new();
        SaslInitialResponse {
            mechanism,
            response: Some(client_first.as_bytes()),
        }
        .encode(&mut message);
        Ok((State::First { exchange, means }, Reply::Send(message)))
    }

    fn answer(&self, challenge: ServerChallenge, means: Means) -> (State, Reply) {
        let password = match means {
            Means::Keys(keys) => return prove(&challenge, &keys),
            Means::Password(password) => password,
        };
        let job = Job::new(password, challenge.salt(), challenge.iterations());
        match &self.credentials.cached {
            Some(derived) if job.is_done_by(derived) => prove(&challenge, derived.keys()),
            _ => {
                let reply = Reply::Derive(job.clone());
                (State::Keys { job, challenge }, reply)
            }
        }
    }
}

fn send_password(password: &[u8]) -> (State, Reply) {
    let mut message = Vec::new();
    put_password(&mut message, password);
    (State::Answered, Reply::Send(message))
}

fn prove(challenge: &ServerChallenge, keys: &ScramKeys) -> (State, Reply) {
    let (awaited, client_final) = challenge.answer(keys);
    let mut message = Vec::new();
    put_sasl_response(&mut message, client_final.as_bytes());
    (State::Final(awaited), Reply::Send(message))
}

fn verify(awaited: &AwaitedSignature, server_final: &[u8]) -> Result<(), LoginError> {
    awaited.verify(server_final).map_err(|error| match error {
        ScramError::Signature => LoginError::InvalidServerSignature,
        _ => LoginError::UnverifiedServer,
    })
}
