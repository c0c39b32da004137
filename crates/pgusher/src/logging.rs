//! The log: PgBouncer's lines or JSON, each written at once and whole, to wherever the settings say.

mod record;
mod sink;
mod syslog;

use std::fmt::{Debug, Write};
use std::sync::Arc;

use settings::Settings;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use self::record::{Record, event_id};
use self::sink::Sink;

/// The way to change how things are logged, while they are.
#[derive(Clone)]
pub struct Logging {
    sink: Arc<Sink>,
    level: reload::Handle<LevelFilter, Registry>,
    /// `-v`, as often as it was given.
    verbose: u32,
}

impl Logging {
    /// Starts the log: to stderr unless `quiet`, and soon wherever the settings say. The
    /// environment tells whether stderr is the journal.
    pub fn start(quiet: bool, verbose: u32, env: &[(String, String)]) -> Self {
        let sink = Arc::new(Sink::new(quiet, env));
        let (filter, level) = reload::Layer::new(level(verbose));
        let lines = Lines(sink.clone()).with_filter(filter);
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
        for complaint in self.sink.configure(settings) {
            tracing::error!("{complaint}");
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

/// Makes a record of each event.
struct Lines(Arc<Sink>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        self.0.write(&Record {
            level: *metadata.level(),
            event: event_id(metadata.name()),
            text: text.0,
        });
    }
}

/// An event's message, with whatever else others' events say behind it.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // A String takes whatever is written.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
