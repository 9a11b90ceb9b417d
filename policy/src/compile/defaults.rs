//! `[defaults]`: what an allow says that leaves it unsaid.

use crate::limits::RuleLimits;
use crate::policy::{Defaults, Mode};
use crate::rule::{Effect, Ports, Schemes, Tls};
use crate::source::{Span, Table};
use crate::target::Scheme;

use super::fields;

/// The defaults, with the place of what a later problem may point at.
pub(super) struct StatedDefaults {
    pub(super) mode: Mode,
    pub(super) defaults: Defaults,
    pub(super) tls_span: Option<Span>,
}

pub(super) fn read(root: &Table<'_>) -> StatedDefaults {
    let mut stated = StatedDefaults {
        mode: Mode::Enforce,
        defaults: Defaults {
            schemes: Schemes::NONE.with(Scheme::Https),
            ports: Ports::listed(&[443].into()),
            tls: Tls::Tunnel,
            limits: RuleLimits::default(),
        },
        tls_span: None,
    };
    let Some(table) = root.find("defaults").and_then(|value| value.table("`[defaults]`")) else {
        return stated;
    };
    let defaults = &mut stated.defaults;
    if let Some(value) = table.find("mode")
        && let Some(mode) = value.choice(&[("enforce", Mode::Enforce), ("report", Mode::Report)])
    {
        stated.mode = mode.value;
    }
    if let Some(schemes) = fields::schemes(&table, Effect::Allow) {
        defaults.schemes = schemes;
    }
    if let Some(ports) = fields::ports(&table, Effect::Allow) {
        defaults.ports = ports;
    }
    if let Some(tls) = fields::tls(&table) {
        defaults.tls = tls.value;
        stated.tls_span = Some(tls.span);
    }
    fields::single_limits(&table, &mut defaults.limits);
    stated
}
