//! The JSON Schema of a policy file, for editors. What it allows and `Policy::load` refuses is
//! left to `egret check`; that both know the same keys is tested.

/// Returns the JSON Schema (draft 7) of `policy.toml`.
pub fn policy_schema() -> &'static str {
    include_str!("../schema/policy.schema.json")
}
