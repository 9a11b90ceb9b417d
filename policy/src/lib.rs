//! The policy engine: policy text to decisions, answers to pinned addresses; pure.
//!
//! [`Policy::load`] reads a text, [`Policy::decide`] turns an [`Ask`] into a [`Permit`] or a
//! [`Denial`], [`Permit::pin`] spends it on the answers for its host, and [`Pinned::reached`] gives
//! the [`Grant`] for a connection that was made. No step can be left out or taken twice: none of
//! these types can be made, copied or kept by anyone else. There is no I/O, no clock and no
//! environment in here; time is an argument.

pub use address::{
    AddressClass, EmbeddedForm, Forbidden, NAT64_LENGTHS, Network, OwnAddresses, SpecialBlock,
    Unlock, classify, embedded_addresses, embedded_in, is_metadata, metadata_name,
};
pub use canonical::{Outline, Section, SectionKind};
pub use credential::{Credential, Inject, Piece, Place, SecretReference, Template, Unscannable};
pub use decide::{Ask, TunnelAsk};
pub use denial::{Denial, DenialDetail, SniFault};
pub use explain::{Branch, Explanation, Field, NearRule, Question};
pub use grant::{Grant, Passage, Sni, TlsClaim, TunnelGrant};
pub use host::{Host, HostError, HostName};
pub use jiff::Timestamp;
pub use limits::RuleLimits;
pub use own_tests::TestOutcome;
pub use path::PathFault;
pub use permit::{Permit, TunnelPermit};
pub use pin::{Answers, Pinned};
pub use policy::{Loaded, Mode, Need, NeedKind, Policy, Revision};
pub use reason::{Reason, Verdict};
pub use rule::{CredentialId, RuleId};
pub use schema::policy_schema;
pub use target::{Authority, Malformed, Method, Scheme, Target, TargetError};
pub use worker::{Labels, Worker, WorkerId, WorkerIdError};

pub mod source;

mod address;
mod canonical;
mod compile;
mod credential;
mod decide;
mod denial;
mod explain;
mod grant;
mod host;
mod index;
mod limits;
mod own_tests;
mod path;
mod permit;
mod pin;
mod policy;
mod reason;
mod rule;
mod schema;
mod target;
mod worker;
