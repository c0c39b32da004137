//! The HTTP endpoint: metrics that are true, health, and readers who mean no good.

mod boards;
mod exporter;
mod health;
mod own;
mod rude;
mod scraped;
mod status;

use std::collections::BTreeMap;

use testkit::{FakeServer, Pooler, PoolerSetup};

use crate::support::before;

/// A trusting pooler with metrics and the database `app` on a fake server.
fn told(server: &FakeServer, workers: u32) -> PoolerSetup {
    before(server, workers).metrics()
}

/// What a scrape says.
struct Scrape {
    /// Types by name.
    types: BTreeMap<String, String>,
    /// Values by name and labels, as they are written.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(pooler: &Pooler) -> Self {
        let page = pooler.page("/metrics").await;
        assert_eq!(page.status, 200, "{page:?}");
        Self::read(&page.body)
    }

    fn read(text: &str) -> Self {
        let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(about) = line.strip_prefix("# TYPE ") {
                let (name, kind) = about.split_once(' ').unwrap();
                types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let old = samples.insert(sample.to_owned(), value.parse().unwrap());
                assert_eq!(old, None, "{sample} is there twice");
            }
        }
        Self { types, samples }
    }

    /// A sample's value.
    fn value(&self, sample: &str) -> f64 {
        let value = self.samples.get(sample);
        *value.unwrap_or_else(|| panic!("no {sample} in {:#?}", self.samples))
    }

    /// The names that samples have.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(|sample| name(sample))
    }
}

/// A sample's name, without its labels.
fn name(sample: &str) -> &str {
    sample.split('{').next().unwrap()
}
