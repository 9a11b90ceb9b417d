//! A policy's own tests: what its file says must come of a request.
//!
//! They take the path of `explain`. What report mode would deny counts as denied: the rules are
//! what is tested, and a policy must pass the same tests before it is put in force.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::explain::Question;
use crate::policy::Policy;
use crate::reason::{Reason, Verdict};
use crate::rule::RuleId;
use crate::target::{Authority, Scheme};
use crate::worker::{Worker, WorkerId};

/// One `[[test]]`.
#[derive(Debug)]
pub(crate) struct OwnTest {
    pub(crate) worker: Worker,
    pub(crate) method: Box<str>,
    pub(crate) url: Box<str>,
    pub(crate) expect: Expect,
    pub(crate) reason: Option<Reason>,
    pub(crate) rule: Option<RuleId>,
    pub(crate) addresses: Option<Vec<IpAddr>>,
}

/// What a test expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Allow,
    Deny,
}

impl Expect {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The outcome of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestOutcome {
    /// Which test, from 0 in the order of the file: for programs. People are told its `number`.
    pub index: usize,
    /// Whether it passed.
    pub ok: bool,
    /// What it expects, as far as it says.
    pub expected: String,
    /// What came of it.
    pub got: String,
    /// The id of the worker that asks.
    #[serde(skip)]
    pub worker: WorkerId,
    /// Where to; nothing where the URL cannot be read.
    #[serde(skip)]
    pub asked: Option<(Scheme, Authority)>,
}

impl TestOutcome {
    /// Which test, from 1 in the order of the file.
    pub fn number(&self) -> usize {
        self.index + 1
    }
}

/// What came of a test, for people.
impl fmt::Display for TestOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "test {} expected {}, got {}", self.number(), self.expected, self.got)
    }
}

impl Policy {
    /// Runs the policy's own tests. A policy of which one fails must not be put in force.
    pub fn run_tests(&self, now: Timestamp) -> Vec<TestOutcome> {
        let outcomes = self.tests.iter().enumerate();
        outcomes.map(|(index, test)| self.run_test(index, test, now)).collect()
    }

    fn run_test(&self, index: usize, test: &OwnTest, now: Timestamp) -> TestOutcome {
        let question = Question {
            worker: &test.worker,
            method: &test.method,
            url: &test.url,
            addresses: test.addresses.as_deref().unwrap_or_default(),
        };
        let answer = self.answer(&question, now);
        let effect = match answer.verdict() {
            Some(Verdict::Allow) => Expect::Allow,
            Some(Verdict::WouldDeny(_)) | None => Expect::Deny,
        };
        let (reason, rule) = (answer.reason(), answer.rule());
        let ok = effect == test.expect
            && test.reason.is_none_or(|expected| expected == reason)
            && test.rule.as_ref().is_none_or(|expected| Some(expected) == rule);
        TestOutcome {
            index,
            ok,
            expected: told(test.expect, test.reason, test.rule.as_ref()),
            got: told(effect, Some(reason), rule),
            worker: test.worker.id.clone(),
            asked: answer.asked().map(|asked| (asked.scheme(), asked.authority().clone())),
        }
    }
}

fn told(effect: Expect, reason: Option<Reason>, rule: Option<&RuleId>) -> String {
    let mut text = effect.as_str().to_owned();
    if let Some(reason) = reason {
        text += &format!(" {reason}");
    }
    if let Some(rule) = rule {
        text += &format!(" by rule {rule}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(tests: &str) -> Vec<(bool, String, String)> {
        let policy = format!(
            "version = 1
            [[rule]]
            id = 'a'
            effect = 'allow'
            hosts = ['a.test']
            {tests}"
        );
        let policy = Policy::load(&policy).policy.unwrap();
        let outcomes = policy.run_tests(Timestamp::UNIX_EPOCH).into_iter().enumerate();
        outcomes
            .map(|(index, outcome)| {
                assert_eq!(outcome.index, index);
                (outcome.ok, outcome.expected, outcome.got)
            })
            .collect()
    }

    #[test]
    fn a_test_that_fails_says_what_came_instead() {
        let found = outcomes(
            "[[test]]
            url = 'https://a.test/'
            expect = 'allow'
            rule = 'a'
            [[test]]
            url = 'https://b.test/'
            expect = 'allow'
            [[test]]
            url = 'https://b.test/'
            expect = 'deny'
            reason = 'egress.port_not_allowed'
            [[test]]
            url = 'https://a.test/'
            expect = 'allow'
            addresses = ['140.82.112.6', '10.0.0.1']
            [[test]]
            url = 'https://b.test/'
            expect = 'deny'
            rule = 'a'",
        );
        let told = |ok, expected: &str, got: &str| (ok, expected.to_owned(), got.to_owned());
        let allowed = "allow egress.allowed by rule a";
        let denied = "deny egress.host_not_allowed";
        assert_eq!(
            found,
            [
                told(true, "allow by rule a", allowed),
                told(false, "allow", denied),
                told(false, "deny egress.port_not_allowed", denied),
                told(false, "allow", "deny egress.address_forbidden by rule a"),
                told(false, "deny by rule a", denied),
            ]
        );
    }
}
