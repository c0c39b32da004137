//! See `pgusher_fuzz::scanner`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgusher_fuzz::properties::scanner(data));
