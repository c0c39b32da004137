//! What must hold for any bytes, and the door for the fuzzer.

pub mod doors;
pub mod properties;
