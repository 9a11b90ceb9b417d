//! Targets and authorities, against the HTTP library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_proxy::fuzzed::accepted_targets_mean_one_thing(
    bytes
));
