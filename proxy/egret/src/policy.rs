//! The policy file: found, read, and for `serve` taken only whole.
//!
//! What a policy needs and this release cannot do refuses it at start: a rule that is kept by half
//! would let through what its author believes to be inspected or given a credential.

use std::{path::Path, sync::Arc};

use egret_policy::{Loaded, Mode, Need, NeedKind, Outline, Policy, Timestamp, source::Problem};

use crate::{
    config,
    diagnostic::{Severity, print_problems},
    environment::Environment,
    failure::Failure,
    files::{self, SourceText},
    starter,
};

/// A policy to run by, and the text that it was made of.
#[derive(Debug)]
pub(crate) struct ForServing {
    pub(crate) policy: Arc<Policy>,
    pub(crate) source: SourceText,
}

impl ForServing {
    /// Says what the report mode lets through, if that is its mode.
    pub(crate) fn warn_of_report_mode(&self) {
        if self.policy.mode() == Mode::Report {
            tracing::warn!("the policy is in report mode: what no rule matches is let through");
        }
    }
}

/// Reads the policy to run by. Whatever refuses it has been printed on failure.
pub(crate) fn for_serving(path: &Path, now: Timestamp) -> Result<ForServing, Failure> {
    judged(files::read_guarded(path)?, now)
}

/// Takes a text only whole. Whatever refuses it has been printed on failure, or is in that.
pub(crate) fn judged(source: SourceText, now: Timestamp) -> Result<ForServing, Failure> {
    let policy = loaded(&source)?;
    let unavailable = unavailable(&policy);
    if !unavailable.is_empty() {
        print_problems(Severity::Error, &source, &unavailable);
        return Err(Failure::Invalid { file: source.name(), problems: unavailable.len() });
    }
    let failed: Vec<_> = policy.run_tests(now).into_iter().filter(|test| !test.ok).collect();
    if !failed.is_empty() {
        return Err(Failure::PolicyTests { file: source.name(), failed });
    }
    Ok(ForServing { policy: Arc::new(policy), source })
}

/// Loads a policy to judge by; its problems have been printed on failure.
pub(crate) fn loaded(source: &SourceText) -> Result<Policy, Failure> {
    let Loaded { policy, problems, warnings } = Policy::load(&source.text);
    print_problems(Severity::Warning, source, &warnings);
    print_problems(Severity::Error, source, &problems);
    policy.ok_or_else(|| Failure::Invalid { file: source.name(), problems: problems.len() })
}

/// Reads a policy to judge by, and what it means key by key.
pub(crate) fn outlined(path: &Path) -> Result<(SourceText, Policy, Outline), Failure> {
    let source = files::read(path)?;
    let policy = loaded(&source)?;
    let outline = Policy::outline(&source.text).unwrap_or_default();
    Ok((source, policy, outline))
}

/// What the policy needs and the data path of this release cannot do.
pub(crate) fn unavailable(policy: &Policy) -> Vec<Problem> {
    policy.needs().iter().filter_map(unavailable_need).collect()
}

fn unavailable_need(need: &Need) -> Option<Problem> {
    let Need { kind, rule, span, line, column } = need;
    let (what, fix) = match kind {
        NeedKind::Interception => (
            "the interception of TLS",
            "leave `tls = \"intercept\"` out; the tunnel is then relayed",
        ),
        NeedKind::Credentials => ("the injection of credentials", "leave `credentials` out"),
        NeedKind::CountedLimits => return None,
    };
    Some(Problem {
        span: span.clone(),
        line: *line,
        column: *column,
        message: format!("rule `{rule}` needs {what}, which is not available in this release"),
        fix: fix.to_owned(),
    })
}

/// The policy of somebody without a configuration: theirs, or the one they would be given.
pub(crate) fn users(environment: &Environment) -> Result<SourceText, Failure> {
    let users = config::users_policy(environment).ok();
    match users.filter(|path| files::is_there(path)) {
        Some(path) => Ok(files::read(&path)?),
        None => {
            Ok(SourceText { path: "the starter policy".into(), text: starter::POLICY.to_owned() })
        }
    }
}
