//! Properties that hold for any input, each said once, beside what it is about.
//!
//! The fuzz targets in `proxy/core/fuzz` call them without end, and a bounded test calls each over
//! the attack cases and small changes of them. Not part of the crate as it is built for use.

pub use crate::{
    gate::fuzzed::only_well_formed_messages_pass,
    hello::fuzzed::first_bytes_are_told_once_and_for_all,
    parse::fuzzed::accepted_targets_mean_one_thing, resolve::fuzzed::only_the_chain_is_believed,
};
