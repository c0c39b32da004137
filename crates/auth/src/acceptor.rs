//! Proves a client, state by state.
//!
//! ```text
//! start ─┬─ trust ───────────────────────────────────────────────────────────▶ Done | Refuse
//!        ├─ plain ── Password ──┬──────────────────────────────────────────────▶ Done | Refuse
//!        │                      └─ (stored verifier) ── Derive ──▶ PasswordKeys ─▶ Done | Refuse
//!        ├─ md5 ──── Md5 ──────────────────────────────────────────────────────▶ Done | Refuse
//!        └─ scram ── ClientFirst ── ClientFinal ─┬─────────────────────────────▶ Done | Refuse
//!                                                └─ Derive ──▶ ProofKeys ────────▶ Done | Refuse
//! ```
//!
//! Whoever cannot win (an unknown user, a user without a password, an MD5 hash where SCRAM is
//! demanded) walks the same way as everybody else and is refused at its end.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use thiserror::Error;
use wire::ProtocolError;
use wire::authentication::{AuthRequest, SaslInitialResponse, parse_password};

use crate::derive::{Derived, Job};
use crate::md5::{Md5Response, Md5Secret};
use crate::random::{Entropy, Nonce, SaltKey};
use crate::scram::{
    Accepted, ChannelBinding, ClientProof, ITERATIONS_MAX, MECHANISM, MECHANISM_PLUS, ScramError,
    ScramKeys, ServerExchange, Verifier,
};
use crate::secret::{PASSWORD_LEN_MAX, Password, Secret};

/// What a client is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// Nothing, if the user is known.
    Trust,
    /// The password in clear.
    Plain,
    /// The password under MD5; SCRAM, if a verifier is stored.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
}

/// What is known of the user who wants in.
pub enum Known {
    /// A secret; a [blank](Secret::blank) one passes nothing but trust.
    Secret {
        /// The secret itself.
        secret: Secret,
        /// Keys derived earlier for this user, if any: used only if they still fit.
        cached: Option<Arc<Derived>>,
    },
    /// No such user, or no such database.
    Nobody,
}

/// How SCRAM is played where no stored verifier decides it.
#[derive(Clone, Copy)]
pub struct ScramPolicy<'a> {
    /// The setting `scram_iterations`.
    pub iterations: u32,
    /// Draws the salts.
    pub salt_key: &'a SaltKey,
    /// The hash of the certificate that the client was shown, to which its login may be bound.
    pub end_point: Option<&'a Arc<[u8]>>,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send this, then hand the body of the client's next `p` message to [`Acceptor::on`].
    Send(AuthRequest),
    /// Run this elsewhere, then hand the result to [`Acceptor::derived`].
    Derive(Job),
    /// The client is who it says.
    Done {
        /// To be sent first, before `AuthRequest::Ok`: the SASLFinal that proves us to the client.
        last_words: Option<AuthRequest>,
        /// Who it is.
        identity: Identity,
    },
    /// The client is not let in.
    Refuse(Refusal),
}

/// What a login brought to light, beyond the user's name.
#[derive(Debug, Default)]
pub struct Identity {
    /// The client's keys, after a login against a stored verifier: they log in to servers that
    /// store the same.
    pub scram_keys: Option<ScramKeys>,
    /// The password, if it was sent in clear.
    pub password: Option<Password>,
}

/// Why a client is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Trust is for known users only.
    #[error("no such user to trust")]
    Trust,
    /// A blank password.
    #[error("empty password")]
    EmptyPassword,
    /// A password of more than [`PASSWORD_LEN_MAX`] bytes.
    #[error("password of {0} bytes")]
    PasswordTooLong(usize),
    /// A password, or its MD5 answer, that does not match.
    #[error("wrong password")]
    WrongPassword,
    /// No password could have matched: unknown user, or none is set.
    #[error("no such user, or the user has no password")]
    NoPassword,
    /// A stored verifier that would take too long to check a password against.
    #[error("stored verifier with {0} iterations")]
    TooManyIterations(u32),
    /// A message that is no password.
    #[error("{0}")]
    BadPassword(ProtocolError),
    /// Another mechanism than the one offered.
    #[error("the client selected an invalid SASL mechanism")]
    Mechanism,
    /// A message that is no SASL.
    #[error("{0}")]
    BadSasl(ProtocolError),
    /// A SCRAM exchange gone wrong.
    #[error("{0}")]
    Scram(#[from] ScramError),
    /// No proof could have been right: unknown user, no password, or only its MD5 hash.
    #[error("no such user, or no secret that SCRAM could use")]
    NoVerifier,
    /// A message or a result that nobody waited for.
    #[error("out of turn")]
    OutOfTurn,
}

impl Refusal {
    /// What the client is told, in PgBouncer's words: it must not learn which users exist.
    pub fn for_client(&self) -> &'static str {
        match self {
            Self::Trust => "\"trust\" authentication failed",
            Self::EmptyPassword => "empty password returned by client",
            Self::PasswordTooLong(_)
            | Self::WrongPassword
            | Self::NoPassword
            | Self::TooManyIterations(_)
            | Self::BadPassword(_)
            | Self::OutOfTurn => "password authentication failed",
            Self::Mechanism => "client selected an invalid SASL authentication mechanism",
            Self::BadSasl(_) | Self::Scram(_) | Self::NoVerifier => "SASL authentication failed",
        }
    }
}

/// Proves one client.
pub struct Acceptor {
    state: State,
}

enum State {
    /// The password is due.
    Password {
        user: String,
        secret: Option<Secret>,
    },
    /// The keys of the password are due.
    PasswordKeys {
        job: Job,
        password: Password,
        verifier: Verifier,
    },
    /// The answer to the MD5 challenge is due; `None` if no answer is right.
    Md5(Option<Md5Response>),
    /// The client's first SCRAM message is due.
    ClientFirst {
        against: Against,
        nonce: Nonce,
        end_point: Option<Arc<[u8]>>,
    },
    /// The client's last SCRAM message is due.
    ClientFinal {
        against: Against,
        exchange: ServerExchange,
    },
    /// The keys that the proof is checked against are due.
    ProofKeys { job: Job, proof: ClientProof },
    /// The client is in, or out.
    Over,
}

/// What a SCRAM proof is checked against.
enum Against {
    /// The verifier that is stored, on the server as well.
    Stored(Verifier),
    /// A verifier derived earlier from the password that is stored.
    Cached(Verifier),
    /// A password whose verifier is still to be derived.
    Password(Job),
    /// Nothing: any proof is wrong, though it is checked like the others.
    Mock(Verifier),
}

impl Acceptor {
    /// Believes that a client is who it says, if there is such a user.
    pub fn trusting(known: &Known) -> (Self, Step) {
        let step = match known {
            Known::Secret { .. } => admit(Identity::default()),
            Known::Nobody => Step::Refuse(Refusal::Trust),
        };
        (Self { state: State::Over }, step)
    }

    /// Begins to prove that a client is `user`.
    pub fn start(
        challenge: Challenge,
        user: &str,
        known: Known,
        policy: ScramPolicy<'_>,
        entropy: Entropy,
    ) -> (Self, Step) {
        match challenge {
            Challenge::Trust => Self::trusting(&known),
            Challenge::Plain => {
                let user = user.to_owned();
                let (secret, _) = known.usable();
                ask(
                    AuthRequest::CleartextPassword,
                    State::Password { user, secret },
                )
            }
            Challenge::Md5 => match known.usable() {
                (Some(Secret::Scram(verifier)), _) => {
                    ask_scram(Against::Stored(verifier), entropy.nonce, policy.end_point)
                }
                (secret, _) => ask_md5(user, secret, entropy.md5_salt),
            },
            Challenge::Scram => {
                let (secret, cached) = known.usable();
                let against = Against::choose(user, secret, cached, policy);
                ask_scram(against, entropy.nonce, policy.end_point)
            }
        }
    }

    /// Takes the body of a `p` message.
    pub fn on(&mut self, body: &[u8]) -> Step {
        let (state, step) = match std::mem::replace(&mut self.state, State::Over) {
            State::Password { user, secret } => on_password(&user, secret, body),
            State::Md5(right) => (State::Over, on_md5(right, body)),
            State::ClientFirst {
                against,
                nonce,
                end_point,
            } => on_client_first(against, &nonce, end_point.as_ref(), body),
            State::ClientFinal { against, exchange } => on_client_final(against, exchange, body),
            State::PasswordKeys { .. } | State::ProofKeys { .. } | State::Over => {
                (State::Over, Step::Refuse(Refusal::OutOfTurn))
            }
        };
        self.state = state;
        step
    }

    /// Takes the result of the job last given out.
    pub fn derived(&mut self, derived: &Derived) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::PasswordKeys {
                job,
                password,
                verifier,
            } if job.is_done_by(derived) => {
                if derived.verifier() == verifier {
                    admit_typed(password)
                } else {
                    Step::Refuse(Refusal::WrongPassword)
                }
            }
            State::ProofKeys { job, proof } if job.is_done_by(derived) => {
                match proof.check(&derived.verifier()) {
                    Ok(accepted) => admit_proven(accepted.server_final, None),
                    Err(error) => Step::Refuse(error.into()),
                }
            }
            _ => Step::Refuse(Refusal::OutOfTurn),
        }
    }
}

impl Known {
    /// The secret that can be matched, if there is one, and what was derived from it.
    fn usable(self) -> (Option<Secret>, Option<Arc<Derived>>) {
        match self {
            Self::Secret { secret, cached } if !secret.is_blank() => (Some(secret), cached),
            Self::Secret { .. } | Self::Nobody => (None, None),
        }
    }
}

fn ask(request: AuthRequest, state: State) -> (Acceptor, Step) {
    (Acceptor { state }, Step::Send(request))
}

fn ask_md5(user: &str, secret: Option<Secret>, salt: [u8; 4]) -> (Acceptor, Step) {
    let hash = secret.and_then(|secret| match secret {
        Secret::Plain(password) => Some(Md5Secret::from_password(&password, user)),
        Secret::Md5(hash) => Some(hash),
        Secret::Scram(_) => None,
    });
    let right = hash.map(|hash| hash.response(salt));
    ask(AuthRequest::Md5Password { salt }, State::Md5(right))
}

fn ask_scram(against: Against, nonce: Nonce, end_point: Option<&Arc<[u8]>>) -> (Acceptor, Step) {
    const ALL: &[Cow<'static, str>] = &[Cow::Borrowed(MECHANISM_PLUS), Cow::Borrowed(MECHANISM)];
    const UNBOUND: &[Cow<'static, str>] = &[Cow::Borrowed(MECHANISM)];
    let mechanisms = match end_point {
        Some(_) => ALL.into(),
        None => UNBOUND.into(),
    };
    let state = State::ClientFirst {
        against,
        nonce,
        end_point: end_point.cloned(),
    };
    ask(AuthRequest::Sasl { mechanisms }, state)
}

impl Against {
    fn choose(
        user: &str,
        secret: Option<Secret>,
        cached: Option<Arc<Derived>>,
        policy: ScramPolicy<'_>,
    ) -> Self {
        let salt = || policy.salt_key.salt_for(user);
        let (password, salt) = match secret {
            Some(Secret::Scram(verifier)) => return Self::Stored(verifier),
            Some(Secret::Plain(password)) => (password, salt()),
            Some(Secret::Md5(_)) | None => {
                return Self::Mock(Verifier::mock(policy.iterations, &salt()));
            }
        };
        let job = Job::new(password, &salt, policy.iterations);
        match cached {
            Some(derived) if job.is_done_by(&derived) => Self::Cached(derived.verifier()),
            _ => Self::Password(job),
        }
    }

    fn salt(&self) -> &[u8] {
        match self {
            Self::Stored(verifier) | Self::Cached(verifier) | Self::Mock(verifier) => {
                verifier.salt()
            }
            Self::Password(job) => job.salt(),
        }
    }

    fn iterations(&self) -> u32 {
        match self {
            Self::Stored(verifier) | Self::Cached(verifier) | Self::Mock(verifier) => {
                verifier.iterations()
            }
            Self::Password(job) => job.iterations(),
        }
    }
}

fn on_password(user: &str, secret: Option<Secret>, body: &[u8]) -> (State, Step) {
    let password = match typed(body) {
        Ok(password) => password,
        Err(refusal) => return (State::Over, Step::Refuse(refusal)),
    };
    let password = Password::new(password);
    let right = match secret {
        None => return (State::Over, Step::Refuse(Refusal::NoPassword)),
        Some(Secret::Plain(secret)) => secret == password,
        Some(Secret::Md5(secret)) => secret == Md5Secret::from_password(&password, user),
        Some(Secret::Scram(verifier)) => return derive_password_keys(password, verifier),
    };
    let step = if right {
        admit_typed(password)
    } else {
        Step::Refuse(Refusal::WrongPassword)
    };
    (State::Over, step)
}

fn derive_password_keys(password: Password, verifier: Verifier) -> (State, Step) {
    let iterations = verifier.iterations();
    // Users can store what they like on a server, so an auth_query may bring any number.
    if iterations > ITERATIONS_MAX {
        let refusal = Refusal::TooManyIterations(iterations);
        return (State::Over, Step::Refuse(refusal));
    }
    let job = Job::new(password.clone(), verifier.salt(), iterations);
    let state = State::PasswordKeys {
        job: job.clone(),
        password,
        verifier,
    };
    (state, Step::Derive(job))
}

fn on_md5(right: Option<Md5Response>, body: &[u8]) -> Step {
    match (typed(body), right) {
        (Err(refusal), _) => Step::Refuse(refusal),
        (Ok(_), None) => Step::Refuse(Refusal::NoPassword),
        (Ok(answer), Some(right)) if right.matches(answer) => admit(Identity::default()),
        (Ok(_), Some(_)) => Step::Refuse(Refusal::WrongPassword),
    }
}

/// The password in the body of a PasswordMessage, for somebody else to check.
pub fn read_password(body: &[u8]) -> Result<Password, Refusal> {
    typed(body).map(Password::new)
}

/// What a PasswordMessage holds, within the bounds of a password.
fn typed(body: &[u8]) -> Result<&[u8], Refusal> {
    match parse_password(body).map_err(Refusal::BadPassword)? {
        [] => Err(Refusal::EmptyPassword),
        password if password.len() > PASSWORD_LEN_MAX => {
            Err(Refusal::PasswordTooLong(password.len()))
        }
        password => Ok(password),
    }
}

fn on_client_first(
    against: Against,
    nonce: &Nonce,
    end_point: Option<&Arc<[u8]>>,
    body: &[u8],
) -> (State, Step) {
    let begun = client_first(body, end_point).and_then(|(message, binding)| {
        let (salt, iterations) = (against.salt(), against.iterations());
        ServerExchange::begin(message, nonce, salt, iterations, &binding).map_err(Refusal::from)
    });
    match begun {
        Ok((exchange, server_first)) => (
            State::ClientFinal { against, exchange },
            Step::Send(AuthRequest::SaslContinue(server_first.into_bytes())),
        ),
        Err(refusal) => (State::Over, Step::Refuse(refusal)),
    }
}

fn client_first<'a>(
    body: &'a [u8],
    end_point: Option<&Arc<[u8]>>,
) -> Result<(&'a [u8], ChannelBinding), Refusal> {
    let chosen = SaslInitialResponse::parse(body).map_err(Refusal::BadSasl)?;
    let binding = ChannelBinding::of(chosen.mechanism, end_point).ok_or(Refusal::Mechanism)?;
    // No client is known that would rather let the server speak first.
    Ok((chosen.response.unwrap_or_default(), binding))
}

fn on_client_final(against: Against, exchange: ServerExchange, body: &[u8]) -> (State, Step) {
    let proof = match exchange.proof(body) {
        Ok(proof) => proof,
        Err(error) => return (State::Over, Step::Refuse(error.into())),
    };
    let checked = match against {
        Against::Password(job) => {
            let state = State::ProofKeys {
                job: job.clone(),
                proof,
            };
            return (state, Step::Derive(job));
        }
        Against::Stored(verifier) => proof
            .check(&verifier)
            .map(|Accepted { keys, server_final }| admit_proven(server_final, Some(keys)))
            .map_err(Refusal::from),
        // These keys fit no server: the salt is ours.
        Against::Cached(verifier) => proof
            .check(&verifier)
            .map(|accepted| admit_proven(accepted.server_final, None))
            .map_err(Refusal::from),
        Against::Mock(verifier) => {
            let _ = proof.check(&verifier);
            Err(Refusal::NoVerifier)
        }
    };
    (State::Over, checked.unwrap_or_else(Step::Refuse))
}

fn admit(identity: Identity) -> Step {
    Step::Done {
        last_words: None,
        identity,
    }
}

fn admit_typed(password: Password) -> Step {
    admit(Identity {
        password: Some(password),
        scram_keys: None,
    })
}

fn admit_proven(server_final: String, scram_keys: Option<ScramKeys>) -> Step {
    Step::Done {
        last_words: Some(AuthRequest::SaslFinal(server_final.into_bytes())),
        identity: Identity {
            scram_keys,
            password: None,
        },
    }
}
