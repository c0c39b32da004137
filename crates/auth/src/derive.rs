//! The slow step of SCRAM: thousands of hashes that must not run on a worker.

use std::fmt;

use crate::scram::{ScramKeys, Verifier};
use crate::secret::Password;

/// Keys to be derived from a password; [`run`](Job::run) takes milliseconds.
#[derive(Clone)]
pub struct Job {
    password: Password,
    salt: Vec<u8>,
    iterations: u32,
}

impl Job {
    pub(crate) fn new(password: Password, salt: &[u8], iterations: u32) -> Self {
        Self {
            password,
            salt: salt.to_vec(),
            iterations,
        }
    }

    /// The salt of the keys.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// How often the password is hashed.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Does the work. To be called where nobody waits for the thread.
    pub fn run(self) -> Derived {
        let keys = ScramKeys::derive(&self.password, &self.salt, self.iterations);
        Derived { job: self, keys }
    }

    /// True if this result is the one the job would give.
    pub fn is_done_by(&self, derived: &Derived) -> bool {
        let Self {
            password,
            salt,
            iterations,
        } = &derived.job;
        self.salt == *salt && self.iterations == *iterations && self.password == *password
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({} iterations)", self.iterations)
    }
}

/// The keys of one password under one salt: worth keeping, since every login of the same user
/// needs them again.
///
/// It knows the password it was made of, so a stale one is never mistaken for an answer.
#[derive(Clone)]
pub struct Derived {
    job: Job,
    keys: ScramKeys,
}

impl Derived {
    /// What a server would store for the password.
    pub fn verifier(&self) -> Verifier {
        self.keys.verifier(&self.job.salt, self.job.iterations)
    }

    /// What a client needs to prove that it knows the password.
    pub fn keys(&self) -> &ScramKeys {
        &self.keys
    }
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Derived(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(password: &str, salt: &[u8], iterations: u32) -> Job {
        Job::new(Password::new(password), salt, iterations)
    }

    #[test]
    fn a_result_answers_its_own_job_and_no_other() {
        let derived = job("secret", b"salt", 2).run();
        assert!(job("secret", b"salt", 2).is_done_by(&derived));
        assert!(!job("changed", b"salt", 2).is_done_by(&derived));
        assert!(!job("secret", b"pepper", 2).is_done_by(&derived));
        assert!(!job("secret", b"salt", 3).is_done_by(&derived));
    }

    #[test]
    fn a_job_may_run_on_another_thread() {
        let derived = std::thread::spawn(|| job("secret", b"salt", 2).run())
            .join()
            .unwrap();
        let verifier = Verifier::from_password(&Password::new("secret"), 2, b"salt");
        assert!(derived.verifier() == verifier);
    }
}
