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
    /// The stage of this number.
    pub(crate) fn from_u8(number: u8) -> Self {
        const ALL: [Stage; 6] = [
            Stage::Running,
            Stage::Paused,
            Stage::Suspending,
            Stage::Suspended,
            Stage::Draining,
            Stage::Stopping,
        ];
        ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// Whether a shutdown is under way.
    pub(crate) fn is_the_end(self) -> bool {
        matches!(self, Self::Draining | Self::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_known_by_its_number() {
        assert!((0..6).all(|number| Stage::from_u8(number) as u8 == number));
        assert_eq!(Stage::from_u8(6), Stage::default());
    }
}
