//! `egret-attack ls`.

use std::process::ExitCode;

use serde_json::json;

use super::List;
use crate::{Exit, Stopped};

pub(crate) fn run(arguments: &List) -> Result<ExitCode, Stopped> {
    for case in arguments.cases.select()? {
        if arguments.json {
            let played = case.is_driven();
            let line = json!({
                "id": case.id, "family": case.family, "kind": case.kind, "name": case.name,
                "expected": case.expected.to_string(), "severity": case.severity.to_string(),
                "requires": case.requires, "driver": played, "why": case.why,
            });
            anstream::println!("{line}");
        } else {
            let (expected, severity) = (case.expected.to_string(), case.severity.to_string());
            let name = if case.name.is_empty() { &case.why } else { &case.name };
            anstream::println!(
                "{:<8} {:<22} {expected:<10} {severity:<8} {name}",
                case.id,
                case.family
            );
        }
    }
    Ok(Exit::Ok.into())
}
