//! Names to addresses: looked up, kept for a while, and compared with what was known.
//!
//! Without a `resolv_conf` of our own it is the system's resolver (getaddrinfo, so nsswitch.conf and
//! all that it leads to) that is asked. It tells neither how long an answer holds nor which zone a
//! name is in: how long answers are kept is for the settings to say, and the serial numbers of zones
//! are asked of DNS servers in any case.

mod conf;
mod dns;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use events::time::Instant;
use settings::Settings;
use tokio::net::lookup_host;

use self::conf::ResolvConf;

/// The system's own list of DNS servers.
const SYSTEM_CONF: &str = "/etc/resolv.conf";

/// What names are looked up by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long an answer is kept.
    pub max_ttl: Duration,
    /// How long a failure is.
    pub failure_ttl: Duration,
    /// How often the serial numbers of zones are asked for.
    pub zone_check: Option<Duration>,
    /// The DNS servers to ask, instead of the system's resolver.
    pub resolv_conf: Option<PathBuf>,
}

impl From<&Settings> for Terms {
    fn from(settings: &Settings) -> Self {
        let period = settings.dns_zone_check_period;
        Self {
            max_ttl: settings.dns_max_ttl,
            failure_ttl: settings.dns_nxdomain_ttl,
            zone_check: (!period.is_zero()).then_some(period),
            resolv_conf: settings.resolv_conf.clone(),
        }
    }
}

/// A name, as it is known now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHost {
    /// The name.
    pub name: String,
    /// How long the answer is still kept.
    pub ttl: Duration,
    /// Its addresses; none, if the look-up failed.
    pub addresses: Vec<IpAddr>,
}

/// A zone whose serial number is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownZone {
    /// Its name.
    pub name: String,
    /// Its serial number; 0 until it is known.
    pub serial: u32,
    /// How many known names are in it.
    pub hosts: usize,
}

/// All names that were asked for, for all threads. They come from the configuration, so that there
/// are never more of them than it has had.
#[derive(Debug, Default)]
pub struct Resolver {
    terms: Mutex<Terms>,
    names: Mutex<HashMap<String, Arc<Entry>>>,
    zones: Mutex<BTreeMap<String, Zone>>,
    /// How often a name has lost an address.
    changes: AtomicU64,
    /// Look-ups under way.
    queries: AtomicUsize,
}

#[derive(Debug, Default)]
struct Entry {
    /// Held by whoever looks the name up: nobody else need do it then.
    gate: tokio::sync::Mutex<()>,
    answer: Mutex<Answer>,
}

#[derive(Debug, Clone, Default)]
struct Answer {
    /// What was found last.
    addresses: Arc<[IpAddr]>,
    /// Why nothing was found since.
    failure: Option<String>,
    /// When it is looked up again; `None` before the first time.
    until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Zone {
    serial: u32,
    asked: Option<Instant>,
}

impl Resolver {
    /// Looks names up like this from now on. What is known is kept for no longer than that says.
    pub fn set_terms(&self, terms: Terms) {
        let now = Instant::now();
        *lock(&self.terms) = terms.clone();
        for entry in lock(&self.names).values() {
            let mut answer = lock(&entry.answer);
            let ttl = match answer.failure {
                Some(_) => terms.failure_ttl,
                None => terms.max_ttl,
            };
            answer.until = answer.until.map(|until| until.min(now + ttl));
        }
    }

    fn terms(&self) -> Terms {
        lock(&self.terms).clone()
    }

    /// All addresses of a name. If they can't be found out, those known before still count.
    pub async fn lookup(&self, name: &str) -> io::Result<Arc<[IpAddr]>> {
        let entry = self.entry(name);
        if let Some(known) = entry.fresh(Instant::now()) {
            return known;
        }
        let _gate = entry.gate.lock().await;
        // Whoever held it may have found out.
        match entry.fresh(Instant::now()) {
            Some(known) => known,
            None => self.look_up(name, &entry).await,
        }
    }

    /// Whether a name is to be looked up again.
    pub fn is_due(&self, name: &str) -> bool {
        self.entry(name).fresh(Instant::now()).is_none()
    }

    /// Looks a name up that is in use, if what is known of it is too old.
    pub async fn refresh(&self, name: &str) {
        let entry = self.entry(name);
        // Somebody else may be at it.
        if entry.fresh(Instant::now()).is_none()
            && let Ok(_gate) = entry.gate.try_lock()
        {
            // The next connection hears of a failure.
            let _ = self.look_up(name, &entry).await;
        }
    }

    async fn look_up(&self, name: &str, entry: &Entry) -> io::Result<Arc<[IpAddr]>> {
        let terms = self.terms();
        self.queries.fetch_add(1, Ordering::Relaxed);
        let result = addresses(name, terms.resolv_conf.as_deref()).await;
        self.queries.fetch_sub(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut answer = lock(&entry.answer);
        match result {
            Ok(found) => {
                let is_gone = |known: &IpAddr| !found.contains(known);
                if answer.addresses.iter().any(is_gone) {
                    self.changes.fetch_add(1, Ordering::SeqCst);
                }
                answer.addresses = found.into();
                answer.failure = None;
                answer.until = Some(now + terms.max_ttl);
            }
            Err(error) => {
                answer.failure = Some(error.to_string());
                answer.until = Some(now + terms.failure_ttl);
            }
        }
        answer.told()
    }

    /// Asks for the serial number of each zone that these names are in, as often as the terms say.
    /// When it has changed, so may the names have: they are looked up at once.
    pub async fn check_zones(&self, names: &[String]) {
        let terms = self.terms();
        let Some(period) = terms.zone_check else {
            lock(&self.zones).clear();
            return;
        };
        let mut wanted: Vec<&str> = names.iter().filter_map(|name| zone_of(name)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        lock(&self.zones).retain(|zone, _| wanted.contains(&zone.as_str()));
        for zone in wanted {
            if !self.is_zone_due(zone, period) {
                continue;
            }
            let conf = terms.resolv_conf.as_deref();
            let conf = conf.unwrap_or(Path::new(SYSTEM_CONF));
            let serial = match ResolvConf::load(conf).await {
                Ok(conf) => dns::serial(&conf, zone).await,
                Err(error) => Err(error),
            };
            // A zone that can't be asked for says nothing.
            if let Ok(serial) = serial
                && self.has_changed(zone, serial)
            {
                self.forget_answers(zone);
            }
        }
    }

    fn is_zone_due(&self, zone: &str, period: Duration) -> bool {
        let mut zones = lock(&self.zones);
        let zone = zones.entry(zone.to_owned()).or_default();
        let now = Instant::now();
        let due = zone.asked.is_none_or(|asked| now >= asked + period);
        if due {
            zone.asked = Some(now);
        }
        due
    }

    /// Keeps a zone's serial number; true if there was another before.
    fn has_changed(&self, zone: &str, serial: u32) -> bool {
        let mut zones = lock(&self.zones);
        let Some(zone) = zones.get_mut(zone) else {
            return false;
        };
        let before = std::mem::replace(&mut zone.serial, serial);
        before != 0 && before != serial
    }

    /// What was found for the names of a zone is to be looked up again.
    fn forget_answers(&self, zone: &str) {
        let now = Instant::now();
        for (name, entry) in &*lock(&self.names) {
            if zone_of(name) == Some(zone) {
                lock(&entry.answer).until = Some(now);
            }
        }
    }

    fn entry(&self, name: &str) -> Arc<Entry> {
        let mut names = lock(&self.names);
        if let Some(entry) = names.get(name) {
            return entry.clone();
        }
        names.entry(name.to_owned()).or_default().clone()
    }

    /// Forgets all names but these, which are in use, those that are being looked up, and those whose
    /// answers still hold.
    pub fn keep_only(&self, names: &[String]) {
        let now = Instant::now();
        lock(&self.names).retain(|name, entry| {
            let is_wanted = Arc::strong_count(entry) > 1;
            is_wanted || names.contains(name) || entry.fresh(now).is_some()
        });
    }

    /// How often a name has lost an address: once this goes up, connections to it may be outdated.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Whether an address is one of the name's, as far as is known.
    pub fn is_current(&self, name: &str, address: IpAddr) -> bool {
        let entry = lock(&self.names).get(name).cloned();
        entry.is_none_or(|entry| {
            let answer = lock(&entry.answer);
            answer.addresses.is_empty() || answer.addresses.contains(&address)
        })
    }

    /// All known names, in order.
    pub fn hosts(&self) -> Vec<KnownHost> {
        let now = Instant::now();
        let names = lock(&self.names);
        let known = names.iter().filter_map(|(name, entry)| {
            let answer = lock(&entry.answer);
            Some(KnownHost {
                name: name.clone(),
                ttl: answer.until?.saturating_duration_since(now),
                addresses: answer.addresses.to_vec(),
            })
        });
        let mut known: Vec<_> = known.collect();
        known.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        known
    }

    /// All watched zones, in order.
    pub fn zones(&self) -> Vec<KnownZone> {
        let names: Vec<String> = lock(&self.names).keys().cloned().collect();
        let zones = lock(&self.zones);
        let known = zones.iter().map(|(zone, state)| {
            let hosts = names.iter().filter(|name| zone_of(name) == Some(zone));
            KnownZone {
                name: zone.clone(),
                serial: state.serial,
                hosts: hosts.count(),
            }
        });
        known.collect()
    }

    /// Look-ups under way.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }
}

impl Entry {
    /// The answer, if it still holds.
    fn fresh(&self, now: Instant) -> Option<io::Result<Arc<[IpAddr]>>> {
        let answer = lock(&self.answer);
        answer
            .until
            .is_some_and(|until| now < until)
            .then(|| answer.told())
    }
}

impl Answer {
    fn told(&self) -> io::Result<Arc<[IpAddr]>> {
        match &self.failure {
            Some(failure) if self.addresses.is_empty() => {
                Err(io::Error::new(io::ErrorKind::NotFound, failure.clone()))
            }
            _ => Ok(self.addresses.clone()),
        }
    }
}

/// The zone that a name is taken to be in: all behind its first dot.
fn zone_of(name: &str) -> Option<&str> {
    let (_, zone) = name.trim_end_matches('.').split_once('.')?;
    (!zone.is_empty()).then_some(zone)
}

/// All places of a name that the system's resolver knows; an address in text is itself.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
    }
    Ok(addresses)
}

async fn addresses(name: &str, resolv_conf: Option<&Path>) -> io::Result<Vec<IpAddr>> {
    let mut found = match resolv_conf {
        Some(path) => {
            let conf = ResolvConf::load(path).await?;
            match conf::in_hosts_file(name).await {
                found if !found.is_empty() => found,
                _ => dns::addresses(&conf, name).await?,
            }
        }
        None => {
            let found = resolve(name, 0).await?;
            found.iter().map(SocketAddr::ip).collect()
        }
    };
    let mut seen = Vec::new();
    found.retain(|ip| {
        let is_new = !seen.contains(ip);
        seen.push(*ip);
        is_new
    });
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
    }
    Ok(found)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use testkit::FakeDns;

    use super::*;

    #[tokio::test]
    async fn a_name_that_is_being_looked_up_is_not_forgotten() {
        let dns = FakeDns::start().await;
        let resolver = Resolver::default();
        resolver.set_terms(Terms {
            failure_ttl: Duration::from_secs(1000),
            resolv_conf: Some(dns.resolv_conf()),
            ..Terms::default()
        });
        let mut first = pin!(resolver.lookup("late.test"));
        let begun = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
        assert!(begun);

        resolver.keep_only(&[]);

        assert!(first.await.is_err());
        assert!(resolver.lookup("late.test").await.is_err());
        assert_eq!(dns.asked("late.test"), 1);
    }

    #[test]
    fn a_name_is_in_the_zone_behind_its_first_dot() {
        assert_eq!(zone_of("db.example.org"), Some("example.org"));
        assert_eq!(zone_of("db.example.org."), Some("example.org"));
        assert_eq!(zone_of("localhost"), None);
        assert_eq!(zone_of("localhost."), None);
    }

    #[test]
    fn what_was_known_counts_on_when_a_name_can_not_be_looked_up() {
        let mut answer = Answer {
            failure: Some("nobody answers".to_owned()),
            ..Answer::default()
        };
        assert_eq!(answer.told().unwrap_err().to_string(), "nobody answers");
        answer.addresses = [IpAddr::from([10, 0, 0, 1])].into();
        assert_eq!(*answer.told().unwrap(), [IpAddr::from([10, 0, 0, 1])]);
    }
}
