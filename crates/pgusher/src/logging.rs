//! The log: PgBouncer's lines, each written at once and whole.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Zoned;
use settings::Settings;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// The way to change how things are logged, while they are.
#[derive(Clone)]
pub struct Logging {
    sink: Arc<Sink>,
    level: reload::Handle<LevelFilter, Registry>,
    /// `-v`, as often as it was given.
    verbose: u32,
}

/// Where lines go.
struct Sink {
    stderr: bool,
    file: Mutex<Option<(PathBuf, File)>>,
}

impl Logging {
    /// Starts the log: to stderr unless `quiet`, and soon to a file if the settings name one.
    pub fn start(quiet: bool, verbose: u32) -> Self {
        let sink = Arc::new(Sink {
            stderr: !quiet,
            file: Mutex::default(),
        });
        let (filter, level) = reload::Layer::new(level(verbose));
        let lines = tracing_subscriber::fmt::layer()
            .event_format(Line)
            .with_writer(ToSink(sink.clone()))
            .with_filter(filter);
        // Started twice, as tests may, the first one stays.
        let _ = tracing_subscriber::registry().with(lines).try_init();
        Self {
            sink,
            level,
            verbose,
        }
    }

    /// Follows the settings; a log file is opened again, so that a rotated one is let go.
    pub fn configure(&self, settings: &Settings) {
        let verbose = settings.verbose.max(self.verbose);
        // Fails only when the log itself is gone.
        let _ = self.level.reload(level(verbose));
        let path = settings.logfile.as_deref();
        if let Err(error) = self
            .sink
            .open(path.filter(|path| !path.as_os_str().is_empty()))
        {
            tracing::error!("cannot open logfile: {error}");
        }
    }
}

fn level(verbose: u32) -> LevelFilter {
    match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

impl Sink {
    fn open(&self, path: Option<&Path>) -> io::Result<()> {
        let opened = match path {
            Some(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                Some((path.to_owned(), file))
            }
            None => None,
        };
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        Ok(())
    }
}

/// Makes writers for single lines.
struct ToSink(Arc<Sink>);

struct OneLine<'a>(&'a Sink);

impl<'a> MakeWriter<'a> for ToSink {
    type Writer = OneLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(&self.0)
    }
}

impl Write for OneLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.stderr {
            // A closed stderr is no reason to stop.
            let _ = io::stderr().write_all(line);
        }
        let mut file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = &mut *file {
            file.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `2026-01-31 12:00:00.123 CET [4711] LOG message`.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = Zoned::now();
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "LOG",
            Level::DEBUG => "DEBUG",
            Level::TRACE => "NOISE",
        };
        write!(
            writer,
            "{} [{}] {level} ",
            now.strftime("%Y-%m-%d %H:%M:%S.%3f %Z"),
            std::process::id()
        )?;
        let mut message = String::new();
        context
            .field_format()
            .format_fields(Writer::new(&mut message), event)?;
        put_on_one_line(&mut writer, &message)?;
        writeln!(writer)
    }
}

/// Writes a message that may quote what strangers call themselves: no name begins a new line.
fn put_on_one_line(writer: &mut impl fmt::Write, message: &str) -> fmt::Result {
    for letter in message.chars() {
        if letter.is_control() {
            write!(writer, "{}", letter.escape_default())?;
        } else {
            writer.write_char(letter)?;
        }
    }
    Ok(())
}
