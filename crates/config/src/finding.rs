//! What is wrong with a configuration, and where it was written.

use std::fmt;

/// Why a configuration was refused: everything that was found, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    findings: Vec<Finding>,
}

impl ConfigError {
    pub(crate) fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| a.place.cmp(&b.place));
        Self { findings }
    }

    /// The same about a text that nobody has written to a file: it came from the environment.
    pub(crate) fn of_the_environment(mut self) -> Self {
        self.findings
            .iter_mut()
            .for_each(|finding| finding.place = Place::Environment);
        self
    }

    /// Everything that was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl From<Finding> for ConfigError {
    fn from(finding: Finding) -> Self {
        Self::new(vec![finding])
    }
}

impl std::error::Error for ConfigError {}

/// One finding on each line.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.findings.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong: an error, or among [`Config::warnings`](crate::Config) a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it was written.
    pub place: Place,
    /// The key, with the entry's name before it in a connection string; empty if none is to blame.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Finding {
    pub(crate) fn new(place: Place, key: impl Into<String>, problem: Problem) -> Self {
        let key = key.into();
        Self {
            place,
            key,
            problem,
        }
    }
}

/// `file:line: key: what is wrong`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.problem)
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file as a whole.
    File(String),
    /// A line of a file, counted from 1.
    Line {
        /// The file, as it was named on the command line or by `%include`.
        file: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment,
}

impl Place {
    pub(crate) fn line(file: &str, line: usize) -> Self {
        let file = file.to_owned();
        Self::Line { file, line }
    }

    /// Reads back what [`Display`](fmt::Display) wrote: the `config` crate carries origins as text.
    pub(crate) fn from_origin(origin: &str) -> Self {
        if origin == ENVIRONMENT {
            return Self::Environment;
        }
        match origin.rsplit_once(':') {
            Some((file, line)) => match line.parse() {
                Ok(line) => Self::line(file, line),
                Err(_) => Self::File(origin.to_owned()),
            },
            None => Self::File(origin.to_owned()),
        }
    }
}

const ENVIRONMENT: &str = "environment";

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.write_str(file),
            Self::Line { file, line } => write!(f, "{file}:{line}"),
            Self::Environment => f.write_str(ENVIRONMENT),
        }
    }
}

/// Why one setting was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingError {
    /// The key as it was given.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a key or its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No such key.
    #[error("unknown key{}", DidYouMean(*.nearest))]
    UnknownKey {
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A value that its key cannot take.
    #[error("expected {expected}, got {value:?}")]
    Value {
        /// The value as it was given.
        value: String,
        /// What would have been taken.
        expected: &'static str,
    },
    /// Neither a header, nor a comment, nor `key = value`.
    #[error("expected {0}")]
    Syntax(&'static str),
    /// No such section.
    #[error("unknown section, expected [pgbouncer], [databases], [users] or [peers]")]
    UnknownSection,
    /// The file has no `[pgbouncer]`.
    #[error("main section missing, expected [pgbouncer]")]
    MainSectionMissing,
    /// A file that could not be read.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// The system's reason.
        reason: String,
    },
    /// An environment variable that is not there.
    #[error("there is no environment variable {0}")]
    NoVariable(String),
    /// `%include` within `%include`, too many times.
    #[error("%include nested deeper than {depth_max}")]
    IncludeTooDeep {
        /// The deepest allowed.
        depth_max: usize,
    },
    /// A name that belongs to the console.
    #[error("this database name is reserved for the console")]
    ReservedName,
    /// A name longer than its kind may be.
    #[error("the name is longer than {len_max} bytes")]
    NameTooLong {
        /// The longest allowed, in bytes.
        len_max: usize,
    },
    /// A setting that is useless without another one.
    #[error("needs {0}")]
    Needs(&'static str),
    /// What the `config` crate had to say.
    #[error("{0}")]
    Other(String),
}

struct DidYouMean(Option<&'static str>);

impl fmt::Display for DidYouMean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nearest) => write!(f, ", did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}
