//! Control looks up the names of hosts again and again while servers are there: their addresses may
//! change, and connections that stand would never notice.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use settings::Host;
use tokio::time::interval;

use crate::pooler::Pooler;

/// How often it looks whether anything is to be looked up.
const GLANCE: Duration = Duration::from_secs(1);

impl Pooler {
    /// Looks names up once what is known of them is too old.
    pub(crate) async fn keep_names(self: Rc<Self>) {
        let mut ticks = interval(GLANCE);
        loop {
            ticks.tick().await;
            let names = self.names_in_use();
            let resolver = &self.process.shared.resolver;
            for name in &names {
                if resolver.is_due(name) {
                    let (process, name) = (self.process, name.clone());
                    // One that is slow to answer delays no other.
                    tokio::task::spawn_local(async move {
                        process.shared.resolver.refresh(&name).await;
                    });
                }
            }
            resolver.keep_only(&names);
        }
    }

    /// Asks zones whether they have changed.
    pub(crate) async fn watch_zones(self: Rc<Self>) {
        let mut ticks = interval(GLANCE);
        loop {
            ticks.tick().await;
            let names = self.names_in_use();
            self.process.shared.resolver.check_zones(&names).await;
        }
    }

    /// Names of hosts where servers are.
    fn names_in_use(&self) -> Vec<String> {
        let mut names = Vec::new();
        for pool in self.process.shared.pools() {
            if pool.servers.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let config = pool.database.config.load();
            names.extend(config.hosts.iter().filter_map(|host| match host {
                Host::Name(name) => Some(name.clone()),
                Host::Ip(_) | Host::Unix(_) => None,
            }));
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}
