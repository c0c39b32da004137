//! See `pgusher_fuzz::pipeline`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgusher_fuzz::properties::pipeline(data));
