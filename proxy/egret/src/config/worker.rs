//! `[[worker]]`: workers that are known by name, and what they prove it with.

use egret_policy::{
    Labels, Worker, WorkerId,
    source::{At, Table, Value, shown},
};
use egret_proxy::StaticWorker;

use super::ANONYMOUS;

/// A worker as it was read; what could not be read is missing and has been reported.
pub(super) struct Known {
    pub(super) id: Option<At<WorkerId>>,
    pub(super) labels: Labels,
    pub(super) token_sha256: Option<At<[u8; 32]>>,
}

impl Known {
    pub(super) fn built(self) -> Option<StaticWorker> {
        let worker = Worker { id: self.id?.value, labels: self.labels };
        Some(StaticWorker { worker, token_sha256: Some(self.token_sha256?.value) })
    }
}

pub(super) fn read(value: &Value<'_>) -> Vec<Known> {
    let tables = value.tables("[[worker]]");
    let known = |table: &Table<'_>| Known {
        id: id(table),
        labels: labels(table),
        token_sha256: token(table),
    };
    tables.iter().map(known).collect()
}

fn id(table: &Table<'_>) -> Option<At<WorkerId>> {
    let value =
        table.require("id", "write `id = \"…\"`, the user name of its proxy credentials")?;
    let text = value.text()?;
    if text.value == ANONYMOUS {
        value.problem(
            format!("the id `{ANONYMOUS}` is reserved for who comes without a proof"),
            "give the worker another id",
        );
        return None;
    }
    if text.value.contains(':') {
        value.problem(
            "the id of a worker with a token cannot hold a colon: it ends the user name there",
            "write a dot or a hyphen instead",
        );
        return None;
    }
    match WorkerId::parse(text.value) {
        Ok(id) => Some(At { value: id, span: text.span }),
        Err(error) => {
            let message = format!("`{}` is not an id: {error}", shown(text.value));
            value.problem(message, "write 1 to 128 letters, digits and `.` `_` `@` `-`");
            None
        }
    }
}

fn labels(table: &Table<'_>) -> Labels {
    let Some(labels) = table.find("labels").and_then(|value| value.table("`labels`")) else {
        return Labels::default();
    };
    let read = labels.free_keys().into_iter().filter_map(|(name, value)| {
        if name.value.is_empty() {
            labels.report().problem(&name.span, "a label has no name", "write `name = \"value\"`");
        }
        Some((name.value, value.text()?.value))
    });
    read.collect()
}

fn token(table: &Table<'_>) -> Option<At<[u8; 32]>> {
    let value = table.require(
        "token_sha256",
        "a worker without a proof is never identified; write `token_sha256 = \"…\"`, the output of \
         `printf %s \"$TOKEN\" | sha256sum`",
    )?;
    let text = value.text()?;
    let digest = digest(text.value);
    if digest.is_none() {
        value.problem(
            "`token_sha256` is not a SHA-256 in hex: 64 digits",
            "write the output of `printf %s \"$TOKEN\" | sha256sum`, never the token itself",
        );
    }
    Some(At { value: digest?, span: text.span })
}

fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}
