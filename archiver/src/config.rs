//! What an operator may set about the way out of a coordinator.

/// How much of the history may wait in a coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutboxConfig {
    /// Most transitions that wait while the journal, or the archive, takes none; later ones are dropped and counted. At
    /// least 1. Default 100,000: about 20 MB.
    pub max_waiting: usize,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { max_waiting: 100_000 }
    }
}
