//! See `pgusher_fuzz::hba`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgusher_fuzz::doors::hba(data));
