//! The data path of egret: accept, parse, identify, decide, resolve, pin, connect, inject, relay,
//! record.
//!
//! [`Proxy`] is what a program runs; `exchange` shows the whole way of a request in execution
//! order. Policy decides in `egret-policy`; this crate carries its decisions out and never takes
//! one of its own. It reads no configuration and no environment.

mod accept;
mod caused;
mod clock;
mod dial;
mod exchange;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzed;
mod gate;
mod hello;
mod hop;
mod identify;
mod inject;
mod limit;
mod listen;
mod live;
mod metrics;
mod origin;
mod own;
mod parse;
mod plain;
mod proxy;
mod record;
mod refusal;
mod relay;
mod resolve;
mod roots;
mod seldom;
mod settings;
mod sharded;
mod socket;
mod tunnel;

pub use self::{
    caused::caused,
    clock::Clock,
    identify::{KnownWorker, Named, Proofs, StaticWorkers, Workers},
    limit::{BudgetStore, Day, Used},
    listen::{Inherited, ListenError},
    live::Selector,
    metrics::Metrics,
    own::is_of_this_machine,
    proxy::{BindError, Budgets, Handle, Ports, Proxy, RunError},
    record::{
        ClosedBy, Extent, Fault, Flush, FlushError, HeadKey, HeadKeyError, KeptHead, LONGEST_LINE,
        LineHash, NEWEST_HEAD, OnFailure, OpenError, PolicyChange, PublicKey, RecordError,
        RecordMetrics, RecordSettings, Recorder, Verified, Verifier, segment_name, segment_number,
        segments,
    },
    refusal::reason_codes,
    resolve::{ResolverError, SystemError},
    roots::{Roots, RootsError},
    settings::{
        ConnectionLimits, DnsSettings, IdentityKind, ListenAddress, ListenerSettings, NameServer,
        Settings, Transport,
    },
};

/// The stages themselves, for the proofs in `tests/proofs` that they cannot be misused. Not part
/// of the interface.
#[doc(hidden)]
pub mod stages {
    pub use crate::{
        dial::{Connected, DialError, dial},
        inject::{InjectError, Ready, inject},
        live::Cut,
        metrics::count_request,
        relay::{Upload, UploadError},
    };
}
