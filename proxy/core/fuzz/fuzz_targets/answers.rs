//! Answers of a name server: a message, or records spelt in three bytes each.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_proxy::fuzzed::only_the_chain_is_believed(bytes));
