//! Bytes written down with their repetitions, so that 200 MB take a few KB.

/// Bytes that stand in the stream so many times, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// What is repeated.
    pub(crate) bytes: Vec<u8>,
    /// How often.
    pub(crate) times: usize,
}

/// Pieces in their order.
pub(crate) type Pieces = Vec<Piece>;

impl Piece {
    /// Bytes that stand there once.
    pub(crate) fn once(bytes: impl Into<Vec<u8>>) -> Self {
        Self::repeated(bytes, 1)
    }

    /// Bytes that stand there so many times.
    pub(crate) fn repeated(bytes: impl Into<Vec<u8>>, times: usize) -> Self {
        Self {
            bytes: bytes.into(),
            times,
        }
    }
}
