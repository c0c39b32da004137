//! How many clients each worker has, and which one a new client falls to.

use std::sync::atomic::{AtomicU32, Ordering};

use pool::locality::Cpus;

use crate::process::Counted;

/// A worker may have half as many more clients as the one with the fewest, and so many more at most,
/// if they are heard where it runs.
const MORE_PART: u32 = 2;
const MORE_MAX: u32 = 8;

/// What a worker has to do.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Its client sockets: logins and cancel requests count.
    pub(crate) clients: AtomicU32,
}

impl Load {
    /// One client more.
    pub(crate) fn count(&'static self) -> Counted {
        Counted::new(&self.clients)
    }

    fn clients(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }
}

/// The worker with the fewest clients; or one that runs on the processor where the new client was heard,
/// if it has hardly more. On one machine client, worker and the servers that this one wakes come to
/// share a processor then, and what the kernel keeps of their sockets need not cross to another.
pub(crate) fn choose<'a>(
    loads: &'a [Load],
    cpus: &Cpus,
    heard: Option<u32>,
) -> Option<(usize, &'a Load)> {
    let by_clients = |&(_, load): &(usize, &Load)| load.clients();
    let (least, load) = loads.iter().enumerate().min_by_key(by_clients)?;
    let fewest = load.clients();
    let most = fewest + (fewest / MORE_PART).min(MORE_MAX);
    let is_near = |&(worker, load): &(usize, &Load)| {
        heard.is_some_and(|cpu| cpus.is_on(worker, cpu)) && load.clients() <= most
    };
    let near = loads.iter().enumerate().filter(is_near);
    near.min_by_key(by_clients).or(Some((least, load)))
}

#[cfg(test)]
mod tests {
    use events::time::Instant;
    use pool::WorkerId;

    use super::*;

    /// Chooses among workers with so many clients each, on so many processors.
    fn chosen(workers: &[(u32, u32)], heard: Option<u32>) -> Option<usize> {
        let cpus = Cpus::new(workers.len());
        for (worker, &(_, cpu)) in workers.iter().enumerate() {
            cpus.note(WorkerId(worker), cpu, Instant::now());
        }
        let load = |&(clients, _): &(u32, u32)| Load {
            clients: AtomicU32::new(clients),
        };
        let loads: Vec<Load> = workers.iter().map(load).collect();
        choose(&loads, &cpus, heard).map(|(worker, _)| worker)
    }

    #[test]
    fn a_client_falls_to_the_worker_with_the_fewest() {
        assert_eq!(chosen(&[(3, 0), (2, 1), (2, 2)], None), Some(1));
        // Nobody runs there.
        assert_eq!(chosen(&[(3, 0), (2, 1), (2, 2)], Some(7)), Some(1));
        assert_eq!(chosen(&[], Some(0)), None);
    }

    #[test]
    fn among_equals_it_falls_to_the_one_that_runs_where_it_was_heard() {
        assert_eq!(chosen(&[(0, 0), (0, 1)], Some(1)), Some(1));
        assert_eq!(chosen(&[(5, 0), (5, 1), (5, 1)], Some(1)), Some(1));
    }

    #[test]
    fn that_one_may_have_some_more_but_not_many() {
        // With few clients hardly any more: two of them are two workers' work.
        assert_eq!(chosen(&[(1, 0), (0, 1)], Some(0)), Some(1));
        assert_eq!(chosen(&[(2, 0), (1, 1)], Some(0)), Some(1));
        assert_eq!(chosen(&[(6, 0), (4, 1)], Some(0)), Some(0));
        assert_eq!(chosen(&[(7, 0), (4, 1)], Some(0)), Some(1));
        assert_eq!(chosen(&[(108, 0), (100, 1)], Some(0)), Some(0));
        assert_eq!(chosen(&[(109, 0), (100, 1)], Some(0)), Some(1));
        // Several run there.
        assert_eq!(chosen(&[(11, 0), (8, 1), (9, 0)], Some(0)), Some(2));
    }
}
