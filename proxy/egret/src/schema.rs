//! `egret schema`: the JSON Schemas of the two files, for editors.

use crate::{
    cli,
    failure::{Exit, Failure},
    output,
};

/// JSON Schema (draft-07) of `egret.toml`; its keys are those that the reader knows.
pub(crate) const CONFIG: &str = include_str!("../schema/config.schema.json");

pub(crate) fn run(args: &cli::Schema) -> Result<Exit, Failure> {
    let schema = match args.of {
        cli::SchemaOf::Policy => egret_policy::policy_schema(),
        cli::SchemaOf::Config => CONFIG,
    };
    output::text(schema)?;
    Ok(Exit::Done)
}
