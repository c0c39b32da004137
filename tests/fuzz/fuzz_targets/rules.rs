//! See `pgusher_fuzz::rules`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgusher_fuzz::doors::rules(data));
