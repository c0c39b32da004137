//! What the process as a whole does, for whoever asks whether it is ready for clients.

/// What the process as a whole does. Control says so first, and then does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    /// It serves.
    #[default]
    Running,
    /// PAUSE of all databases: clients may come, and wait.
    Paused,
    /// SUSPEND, until nothing is on its way any more.
    Suspending,
    /// SUSPEND: nothing moves.
    Suspended,
    /// A shutdown that serves the clients that are there.
    Draining,
    /// A shutdown that takes their servers away.
    Stopping,
}

impl Stage {
    /// Whether a shutdown is under way.
    pub(crate) fn is_the_end(self) -> bool {
        matches!(self, Self::Draining | Self::Stopping)
    }
}
