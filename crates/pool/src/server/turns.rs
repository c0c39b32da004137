//! Which of a pool's hosts comes next, which address of a name, and where nobody answered lately.

use std::time::Duration;

use events::time::Instant;
use net::stream::Target;
use settings::LoadBalanceHosts;

/// Places that are remembered at most; addresses may come and go with every look-up of a name.
const FAILED_MAX: usize = 64;

/// Whose turn it is. Decides and never waits: time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    host: usize,
    address: usize,
    failed: Vec<(Target, Instant)>,
}

impl Turns {
    /// The hosts of a list, in the order in which the next login tries them.
    pub(crate) fn hosts(&mut self, count: usize, balance: LoadBalanceHosts) -> Vec<usize> {
        let first = self.host;
        if balance == LoadBalanceHosts::RoundRobin {
            self.host = first.wrapping_add(1);
        }
        (0..count)
            .map(|step| (first % count + step) % count)
            .collect()
    }

    /// Puts the addresses of a name in the order in which the next login tries them.
    pub(crate) fn addresses<T>(&mut self, addresses: &mut [T]) {
        if !addresses.is_empty() {
            addresses.rotate_left(self.address % addresses.len());
            self.address = self.address.wrapping_add(1);
        }
    }

    /// Whether nobody answered there within `pause`: others are tried first.
    pub(crate) fn failed_lately(&self, target: &Target, now: Instant, pause: Duration) -> bool {
        let mut failed = self.failed.iter();
        failed
            .find(|(known, _)| known == target)
            .is_some_and(|&(_, at)| now.saturating_duration_since(at) < pause)
    }

    /// Nobody answered there.
    pub(crate) fn failed(&mut self, target: &Target, now: Instant) {
        self.forget(target);
        if self.failed.len() >= FAILED_MAX {
            self.failed.remove(0);
        }
        self.failed.push((target.clone(), now));
    }

    /// A login worked there. Who does not balance stays with this host until it fails.
    pub(crate) fn worked(&mut self, target: &Target, host: usize, balance: LoadBalanceHosts) {
        self.forget(target);
        if balance == LoadBalanceHosts::Disable {
            self.host = host;
        }
    }

    fn forget(&mut self, target: &Target) {
        self.failed.retain(|(known, _)| known != target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LoadBalanceHosts::{Disable, RoundRobin};

    fn server(port: u16) -> Target {
        Target::Tcp(([127, 0, 0, 1], port).into(), None)
    }

    #[test]
    fn hosts_take_turns_at_being_tried_first() {
        let mut turns = Turns::default();
        assert_eq!(turns.hosts(3, RoundRobin), [0, 1, 2]);
        assert_eq!(turns.hosts(3, RoundRobin), [1, 2, 0]);
        assert_eq!(turns.hosts(3, RoundRobin), [2, 0, 1]);
        assert_eq!(turns.hosts(3, RoundRobin), [0, 1, 2]);
    }

    #[test]
    fn without_balancing_whoever_answered_last_is_tried_first() {
        let mut turns = Turns::default();
        assert_eq!(turns.hosts(3, Disable), [0, 1, 2]);
        assert_eq!(turns.hosts(3, Disable), [0, 1, 2]);
        turns.worked(&server(1), 1, Disable);
        assert_eq!(turns.hosts(3, Disable), [1, 2, 0]);
        assert_eq!(turns.hosts(1, Disable), [0]);
    }

    #[test]
    fn the_addresses_of_a_name_take_turns() {
        let mut turns = Turns::default();
        let mut in_turn = || {
            let mut addresses = ['a', 'b'];
            turns.addresses(&mut addresses);
            addresses
        };
        assert_eq!(
            [in_turn(), in_turn(), in_turn()],
            [['a', 'b'], ['b', 'a'], ['a', 'b']]
        );
    }

    #[test]
    fn where_nobody_answered_is_remembered_for_the_pause_or_until_a_login_works() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        let pause = Duration::from_secs(15);
        turns.failed(&server(1), start);
        turns.failed(&server(2), start);
        turns.worked(&server(2), 0, RoundRobin);

        let lately = |seconds| {
            let now = start + Duration::from_secs(seconds);
            [1, 2, 3].map(|port| turns.failed_lately(&server(port), now, pause))
        };
        assert_eq!(lately(14), [true, false, false]);
        assert_eq!(lately(15), [false; 3]);
    }

    #[test]
    fn places_that_come_and_go_take_no_more_and_more_room() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        for port in 1..1000 {
            turns.failed(&server(port), now);
            assert!(turns.failed_lately(&server(port), now, Duration::from_secs(1)));
            assert!(turns.failed.len() <= FAILED_MAX);
        }
    }
}
