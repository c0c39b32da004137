//! Doors that the test opens when it has seen enough.

use std::sync::Arc;

use tokio::sync::watch;

/// Closed until the test opens it; whoever waits there then goes on.
#[derive(Clone)]
pub struct Gate {
    state: Arc<watch::Sender<State>>,
}

#[derive(Default)]
struct State {
    open: bool,
    waiting: usize,
}

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
        }
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// Holds everybody who comes from now on.
    pub fn close(&self) {
        self.state.send_modify(|state| state.open = false);
    }

    /// How many wait here now.
    pub fn waiting(&self) -> usize {
        self.state.borrow().waiting
    }

    /// Waits until so many wait here.
    pub async fn wait_for_waiting(&self, count: usize) {
        let mut seen = self.state.subscribe();
        let arrive = seen.wait_for(|state| state.waiting == count);
        let arrived = crate::in_time(&format!("{count} waiting at a gate"), arrive).await;
        arrived.expect("the gate is ours");
    }

    /// Goes through when it is open.
    pub async fn pass(&self) {
        let _place = Place::take(self);
        let mut seen = self.state.subscribe();
        seen.wait_for(|state| state.open)
            .await
            .expect("the gate is ours");
    }
}

/// A place in front of the gate, given up also by those who leave without passing.
struct Place<'a>(&'a Gate);

impl<'a> Place<'a> {
    fn take(gate: &'a Gate) -> Self {
        gate.state.send_modify(|state| state.waiting += 1);
        Self(gate)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.waiting -= 1);
    }
}
