//! What it costs to decide who gets which server.
//!
//! `cargo bench -p pgusher-pool`

use events::time::Instant;

use divan::{Bencher, black_box};
use pgusher_pool::state::{Grant, Next, PoolState, Rules};
use pgusher_pool::{ClientId, ServerId};

fn main() {
    divan::main();
}

const RULES: Rules = Rules {
    paused: false,
    round_robin: false,
    check_after: None,
};

/// A pool with so many idle servers.
fn idle(servers: usize, now: Instant) -> PoolState {
    let mut state = PoolState::default();
    for _ in 0..servers {
        let server = state.add();
        state.release(server, now, RULES, None);
    }
    state
}

/// A client finds an idle server, and gives it back.
#[divan::bench(args = [1, 20, 1000])]
fn borrow_and_return(bencher: Bencher<'_, '_>, servers: usize) {
    let now = Instant::now();
    let mut state = idle(servers, now);
    bencher.bench_local(|| {
        let client = black_box(ClientId(7));
        let Grant::Server(server) = state.request(client, now, RULES, || None, |_| None) else {
            panic!("there are idle ones");
        };
        state.release(server, now, RULES, None)
    });
}

/// A server goes from one client to the next in line, and who had it gets in line again.
#[divan::bench(args = [1, 80, 10_000])]
fn hand_on(bencher: Bencher<'_, '_>, waiting: u64) {
    let now = Instant::now();
    let mut state = idle(1, now);
    for client in 0..=waiting {
        state.request(ClientId(client), now, RULES, || None, |_| None);
    }
    let (server, mut holder) = (ServerId(0), ClientId(0));
    bencher.bench_local(|| {
        let Next::Serve(waiter) = state.release(server, now, RULES, None) else {
            panic!("somebody waits");
        };
        state.request(holder, now, RULES, || None, |_| None);
        holder = waiter.client;
    });
}
