//! See `pgusher_fuzz::startup`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgusher_fuzz::properties::startup(data));
