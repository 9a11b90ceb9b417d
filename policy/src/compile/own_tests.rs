//! `[[test]]`: what the file says about itself.

use std::net::IpAddr;

use crate::host::Host;
use crate::own_tests::{Expect, OwnTest};
use crate::reason::Reason;
use crate::rule::RuleId;
use crate::source::{Table, Value, shown};
use crate::worker::{Labels, Worker, WorkerId};

use super::fields;
use super::rule::{Draft, report_unknown_id};

pub(super) fn read(root: &Table<'_>, drafts: &[Draft]) -> Vec<OwnTest> {
    let tables = root.find("test").map(|value| value.tables("a test"));
    tables.unwrap_or_default().iter().filter_map(|table| read_one(table, drafts)).collect()
}

fn read_one(table: &Table<'_>, drafts: &[Draft]) -> Option<OwnTest> {
    let worker = match table.find("worker") {
        Some(value) => read_worker(&value),
        None => Some(Worker { id: anonymous()?, labels: Labels::default() }),
    };
    let method = table.find("method").map_or(Some("GET"), |value| Some(value.text()?.value));
    let url = table.require("url", "add `url = \"https://…\"`").and_then(|value| value.text());
    let expect = table
        .require("expect", "add `expect = \"allow\"` or `expect = \"deny\"`")
        .and_then(|value| value.choice(&[("allow", Expect::Allow), ("deny", Expect::Deny)]));
    let codes = Reason::ALL.map(|reason| (reason.code(), reason));
    let reason_value = table.find("reason");
    let reason = reason_value.map(|value| value.choice(&codes));
    if let (Some(value), Some(Some(reason)), Some(expect)) = (reason_value, &reason, &expect)
        && (reason.value == Reason::Allowed) != (expect.value == Expect::Allow)
    {
        let message = format!("`{}` is no reason for what is expected", reason.value);
        value.problem(message, "change `expect` or `reason`");
    }
    let rule = table.find("rule").map(|value| {
        let text = value.text()?;
        if !drafts.iter().any(|draft| draft.rule.id.as_str() == text.value) {
            report_unknown_id(drafts, table, &text);
        }
        RuleId::parse(text.value)
    });
    let addresses = table.find("addresses").map(|value| {
        let list = value.list()?;
        if list.value.is_empty() {
            value.problem("`addresses` is empty", "list one, or leave `addresses` out");
        }
        Some(list.value.iter().filter_map(address).collect::<Vec<_>>())
    });
    Some(OwnTest {
        worker: worker?,
        method: method?.into(),
        url: url?.value.into(),
        expect: expect?.value,
        reason: settled(reason)?.map(|reason| reason.value),
        rule: settled(rule)?,
        addresses: settled(addresses)?,
    })
}

/// A key that was left out is fine; one that could not be read is not.
fn settled<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(None) => None,
        Some(read) => Some(read),
        None => Some(None),
    }
}

fn read_worker(value: &Value<'_>) -> Option<Worker> {
    let table = value.table("`worker`")?;
    let id = match table.find("id") {
        Some(value) => fields::worker_id(&value),
        None => anonymous(),
    };
    let labels = table.find("labels").map(|value| fields::any_labels(&value));
    Some(Worker { id: id?, labels: labels.unwrap_or_default() })
}

/// Whoever has not said who they are.
fn anonymous() -> Option<WorkerId> {
    WorkerId::parse("anonymous").ok()
}

fn address(entry: &Value<'_>) -> Option<IpAddr> {
    let text = entry.text()?.value;
    match Host::from_policy(text) {
        Ok(Host::Address(address)) => Some(address),
        Ok(Host::Name(_)) | Err(_) => {
            let message = format!("`{}` is not an address", shown(text));
            entry.problem(message, "write an IP address such as `140.82.112.6`");
            None
        }
    }
}
