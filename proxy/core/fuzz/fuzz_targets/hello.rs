//! First bytes inside a tunnel, in any records.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    egret_proxy::fuzzed::first_bytes_are_told_once_and_for_all(bytes)
});
