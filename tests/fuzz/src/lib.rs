//! What must hold for any bytes, and the door for the fuzzer.

pub mod properties;
