//! Properties that hold for any input, each said once, beside what it is about.
//!
//! The fuzz targets in `proxy/core/fuzz` call them without end, and a bounded test calls each over
//! the attack cases and small changes of them. Not part of the crate as it is built for use.

pub use crate::{
    gate::fuzzed::only_well_formed_messages_pass,
    hello::fuzzed::first_bytes_are_told_once_and_for_all,
    parse::fuzzed::accepted_targets_mean_one_thing, resolve::fuzzed::only_the_chain_is_believed,
};

/// Where the bounded tests begin.
#[cfg(test)]
pub(crate) mod seeds {
    use std::path::Path;

    pub(crate) use egret_attack::seeds::Changes;
    use egret_attack::{case, seeds::Seeds};

    /// What the attack cases send.
    pub(crate) fn corpus() -> Seeds {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../attack-scenarios/cases");
        Seeds::of(&case::load(&folder).expect("the cases can be read"))
    }
}
