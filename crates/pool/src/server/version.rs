//! Which minor version of protocol 3 a pool's servers are offered: the newest, until they can't.

use net::stream::Target;
use wire::startup::NEWEST_MINOR;

use crate::shared::{PoolShared, lock};

/// Servers that are remembered at most; addresses may come and go with every look-up of a name.
const KNOWN_MAX: usize = 64;

/// Servers that speak less than the newest version, so that finding out costs once.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// The database's generation that this holds for: RECONNECT may mean that servers are new.
    generation: u64,
    older: Vec<(Target, u16)>,
}

impl Versions {
    fn newest(&self, target: &Target, generation: u64) -> u16 {
        let mut older = self.older.iter();
        older
            .find(|(known, _)| known == target && self.generation == generation)
            .map_or(NEWEST_MINOR, |&(_, minor)| minor)
    }

    fn keep_to(&mut self, target: &Target, generation: u64, minor: u16) {
        if self.generation != generation || self.older.len() >= KNOWN_MAX {
            self.older.clear();
            self.generation = generation;
        }
        self.older.retain(|(known, _)| known != target);
        self.older.push((target.clone(), minor));
    }
}

impl PoolShared {
    /// What a server of the pool is offered.
    pub(crate) fn newest_minor(&self, target: &Target, generation: u64) -> u16 {
        lock(&self.versions).newest(target, generation)
    }

    /// Offers a server no more than this from now on.
    pub(crate) fn keep_to(&self, target: &Target, generation: u64, minor: u16) {
        lock(&self.versions).keep_to(target, generation, minor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(port: u16) -> Target {
        Target::Tcp(([127, 0, 0, 1], port).into(), None)
    }

    #[test]
    fn each_server_is_offered_what_it_speaks_until_the_next_generation() {
        let mut versions = Versions::default();
        assert_eq!(versions.newest(&server(1), 7), 2);
        versions.keep_to(&server(1), 7, 1);
        versions.keep_to(&server(1), 7, 0);
        assert_eq!(versions.newest(&server(1), 7), 0);
        assert_eq!(versions.newest(&server(2), 7), 2);
        assert_eq!(versions.newest(&server(1), 8), 2);
        versions.keep_to(&server(2), 8, 0);
        assert_eq!(versions.newest(&server(1), 8), 2);
        assert_eq!(versions.newest(&server(2), 8), 0);
    }

    #[test]
    fn addresses_that_come_and_go_take_no_more_and_more_room() {
        let mut versions = Versions::default();
        for port in 1..1000 {
            versions.keep_to(&server(port), 0, 0);
            assert_eq!(versions.newest(&server(port), 0), 0);
            assert!(versions.older.len() <= KNOWN_MAX);
        }
    }
}
