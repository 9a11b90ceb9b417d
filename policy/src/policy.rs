//! A loaded policy: immutable, shared by reference, and complete.
//!
//! [`Policy::load`] is the only way to one, and there is one only for a text without problems.
//! What it decides is in `decide`, what it says about its decisions in `explain`.

use std::fmt;
use std::sync::Arc;

use crate::canonical::Outline;
use crate::compile;
use crate::credential::Credential;
use crate::index::Index;
use crate::limits::RuleLimits;
use crate::own_tests::OwnTest;
use crate::permit::Ground;
use crate::rule::{CredentialId, Ports, Rule, RuleId, Schemes, Tls};
use crate::source::{Problem, Span};

/// The rules that are in force.
#[derive(Debug)]
pub struct Policy {
    pub(crate) ground: Arc<Ground>,
    pub(crate) mode: Mode,
    pub(crate) defaults: Defaults,
    pub(crate) rules: Box<[Arc<Rule>]>,
    pub(crate) index: Index,
    pub(crate) credentials: Box<[Credential]>,
    pub(crate) tests: Box<[OwnTest]>,
    pub(crate) needs: Box<[Need]>,
}

/// The outcome of loading a text.
#[derive(Debug)]
pub struct Loaded {
    /// The policy, if there are no problems.
    pub policy: Option<Policy>,
    /// What refuses the text, in its order.
    pub problems: Vec<Problem>,
    /// What is valid but hardly meant, in the order of the text.
    pub warnings: Vec<Problem>,
}

impl Policy {
    /// Reads a policy file. Its own tests are not run: they need to know what time it is.
    pub fn load(text: &str) -> Loaded {
        compile::load(text)
    }

    /// Reads what a policy file means, key by key; nothing if there is a problem with it.
    pub fn outline(text: &str) -> Option<Outline> {
        compile::outline(text)
    }

    /// Returns what identifies the meaning of the policy.
    pub fn revision(&self) -> Revision {
        self.ground.revision
    }

    /// Whether what no rule matches is let through and recorded.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns how many rules there are.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Returns a credential that a rule names.
    pub fn credential(&self, id: &CredentialId) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.id() == id)
    }

    /// Returns every credential, in the order of the file.
    pub fn credentials(&self) -> &[Credential] {
        &self.credentials
    }

    /// Returns what bounds the exchanges under a rule, if there is one of that id. Takes as long as
    /// there are rules: it is for reloads, not for requests.
    pub fn limits(&self, id: &RuleId) -> Option<&RuleLimits> {
        self.rules.iter().find(|rule| rule.id == *id).map(|rule| &rule.limits)
    }

    /// Returns what the data path must be able to do for the rules to hold, in the order of the
    /// file, so that one that cannot refuses the policy instead of half keeping it.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }
}

/// What becomes of requests that no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are denied.
    Enforce,
    /// They are let through, and recorded as what would be denied.
    Report,
}

/// What a rule says that leaves it unsaid.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    pub(crate) schemes: Schemes,
    pub(crate) ports: Ports,
    pub(crate) tls: Tls,
    pub(crate) limits: RuleLimits,
}

/// Something that a rule needs of the data path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub kind: NeedKind,
    /// The rule.
    pub rule: RuleId,
    /// Where it is asked for, in bytes.
    pub span: Span,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// What the data path must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NeedKind {
    /// Open TLS and judge the requests inside.
    Interception,
    /// Place credentials.
    Credentials,
    /// Count requests, tunnels or bytes over more than one exchange.
    CountedLimits,
}

/// The SHA-256 of a policy's canonical form: the same for texts that mean the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub(crate) [u8; 32]);

impl Revision {
    /// Returns the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
