//! See `pgusher_fuzz::frontend`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgusher_fuzz::properties::frontend(data));
