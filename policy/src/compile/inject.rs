//! `inject`: how a credential is placed, one of six ways.
//!
//! Each way must hold a placeholder where its secret goes: text that stands in a policy is not
//! secret. Fields that frame or route a message are never written.

use crate::credential::{Inject, Place, Template, TemplateFault};
use crate::host::Host;
use crate::source::{Table, Value, shown};
use crate::target::{Scheme, Target};

pub(super) fn read(value: &Value<'_>) -> Option<Inject> {
    let table = value.table("`inject`")?;
    let ways: [(&'static str, Way); 6] = [
        ("header", header),
        ("basic", basic),
        ("query", query),
        ("placeholder", placeholder),
        ("sigv4", sigv4),
        ("oauth2", oauth2),
    ];
    let mut found = ways.into_iter().filter_map(|(key, way)| Some((table.find(key)?, way)));
    let (first, way) = match (found.next(), found.next()) {
        (Some(way), None) => way,
        (Some(_), Some((second, _))) => {
            second.problem("`inject` has two ways at once", "write a credential for each");
            return None;
        }
        (None, _) => {
            let names = ways.map(|(key, _)| format!("`{key}`")).join(", ");
            value.problem("`inject` says no way", format!("write one of {names}"));
            // Every key is then a stray one, and the message above says what to write.
            table.ignore("value");
            table.ignore("in");
            return None;
        }
    };
    way(&table, &first)
}

type Way = fn(&Table<'_>, &Value<'_>) -> Option<Inject>;

fn header(table: &Table<'_>, value: &Value<'_>) -> Option<Inject> {
    let template = secret_or_plain(table, "value");
    Some(Inject::Header { name: field_name(value, value.text()?.value)?, value: template? })
}

fn query(table: &Table<'_>, value: &Value<'_>) -> Option<Inject> {
    let template = secret_or_plain(table, "value");
    Some(Inject::Query { key: query_key(value, value.text()?.value)?, value: template? })
}

fn basic(_: &Table<'_>, value: &Value<'_>) -> Option<Inject> {
    let table = value.table("`basic`")?;
    let user = table.require("user", "add `user = \"…\"`").and_then(|value| template(&value));
    let password = secret_or_absent(&table, "password");
    let (user, password) = (user?, password?);
    if !user.has_secret() && !password.has_secret() {
        value.problem("neither user nor password has a `{secret}`", HOLD_SECRET);
    }
    Some(Inject::Basic { user, password })
}

fn placeholder(table: &Table<'_>, value: &Value<'_>) -> Option<Inject> {
    let places = table.require("in", "add `in = [\"header:authorization\"]`");
    let text = value.text()?.value;
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if !plain || !(PLACEHOLDER_MIN..=128).contains(&text.len()) {
        let message = format!("`{}` does not do as a placeholder", shown(text));
        value.problem(
            message,
            "write 8 to 128 of `A-Z a-z 0-9 _ - .`, so that it is met nowhere else",
        );
        return None;
    }
    let list = places?.list()?;
    if list.value.is_empty() {
        places?.problem("`in` is empty: the placeholder would stay", "list where it is looked for");
    }
    let places: Box<[_]> = list.value.iter().filter_map(place).collect();
    Some(Inject::Placeholder { placeholder: text.into(), places })
}

fn place(entry: &Value<'_>) -> Option<Place> {
    let text = entry.text()?.value;
    match text.split_once(':') {
        Some(("header", name)) => field_name(entry, name).map(Place::Header),
        Some(("query", key)) => query_key(entry, key).map(Place::Query),
        Some(_) | None => {
            let message = format!("`{}` is not a place", shown(text));
            entry.problem(message, "write `header:NAME` or `query:KEY`");
            None
        }
    }
}

fn sigv4(_: &Table<'_>, value: &Value<'_>) -> Option<Inject> {
    let table = value.table("`sigv4`")?;
    let access_key = table.require("access_key", "add `access_key = \"{secret.access_key}\"`");
    let secret_key = secret(&table, "secret_key", "add `secret_key = \"{secret.secret_key}\"`");
    let word = |key, fix| {
        let value = table.require(key, fix)?;
        let text = value.text()?.value;
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !plain || text.is_empty() {
            let message = format!("`{key}` cannot be `{}`", shown(text));
            value.problem(message, "write lower-case letters, digits and hyphens");
            return None;
        }
        Some(text.into())
    };
    let region = word("region", "add `region = \"eu-west-1\"`");
    let service = word("service", "add `service = \"s3\"`");
    Some(Inject::Sigv4 {
        access_key: access_key.and_then(|value| template(&value))?,
        secret_key: secret_key?,
        region: region?,
        service: service?,
    })
}

fn oauth2(_: &Table<'_>, value: &Value<'_>) -> Option<Inject> {
    let table = value.table("`oauth2`")?;
    let token_url = table
        .require("token_url", "add `token_url = \"https://…\"`")
        .and_then(|value| https_url(&value));
    let client_id = table.require("client_id", "add `client_id = \"…\"`");
    let client_secret = secret(&table, "client_secret", "add `client_secret = \"{secret}\"`");
    let scope = table.find("scope").map(|value| {
        let text = value.text()?;
        let stray = text.value.chars().find(|c| !matches!(c, ' '..='~') || matches!(c, '"' | '\\'));
        if stray.is_some() || text.value.trim().is_empty() {
            value.problem("`scope` is not a list of scopes", "write them with spaces between");
        }
        Some(Box::from(text.value))
    });
    Some(Inject::Oauth2 {
        token_url: token_url?,
        client_id: client_id.and_then(|value| template(&value))?,
        client_secret: client_secret?,
        scope: scope.unwrap_or_default(),
    })
}

fn https_url(value: &Value<'_>) -> Option<Box<str>> {
    let text = value.text()?.value;
    let target = Target::absolute(text).ok();
    let good = target.filter(|target| {
        target.scheme() == Scheme::Https && matches!(target.authority().host(), Host::Name(_))
    });
    if good.is_none() {
        let message = format!("`{}` is not an https URL with a name", shown(text));
        value.problem(message, "write `https://HOST/PATH`");
        return None;
    }
    Some(text.into())
}

/// `{secret}` where the key is left out.
fn secret_or_plain(table: &Table<'_>, key: &'static str) -> Option<Template> {
    match table.find(key) {
        Some(value) => with_secret(&value),
        None => Template::parse("{secret}").ok(),
    }
}

/// `{secret}` where the key is left out; without a placeholder where another key has one.
fn secret_or_absent(table: &Table<'_>, key: &'static str) -> Option<Template> {
    match table.find(key) {
        Some(value) => template(&value),
        None => Template::parse("{secret}").ok(),
    }
}

fn secret(table: &Table<'_>, key: &'static str, fix: &str) -> Option<Template> {
    with_secret(&table.require(key, fix)?)
}

fn with_secret(value: &Value<'_>) -> Option<Template> {
    let template = template(value)?;
    if !template.has_secret() {
        value.problem(format!("{} has no `{{secret}}`", value.name()), HOLD_SECRET);
        return None;
    }
    Some(template)
}

fn template(value: &Value<'_>) -> Option<Template> {
    match Template::parse(value.text()?.value) {
        Ok(template) => Some(template),
        Err(fault) => {
            let fix = match fault {
                TemplateFault::Brace => "write `{secret}`, or `{secret.FIELD}` for a field of it",
                TemplateFault::Character(_) => "write visible ASCII and spaces",
            };
            value.problem(format!("{} {fault}", value.name()), fix);
            None
        }
    }
}

fn field_name(value: &Value<'_>, text: &str) -> Option<Box<str>> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
    let name = text.to_ascii_lowercase();
    if text.is_empty() || !text.bytes().all(token) {
        let message = format!("`{}` is not the name of a header field", shown(text));
        value.problem(message, "write letters, digits and hyphens, no underscore");
        return None;
    }
    if FRAMING.contains(&&*name) || name.starts_with("proxy-") {
        let message = format!("`{name}` frames or routes the message");
        value.problem(message, "place the secret in another field");
        return None;
    }
    Some(name.into())
}

fn query_key(value: &Value<'_>, text: &str) -> Option<Box<str>> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.~[]".contains(&byte));
    if text.is_empty() || !plain {
        let message = format!("`{}` is not a key of a query", shown(text));
        value.problem(message, "write letters, digits and `_ - . ~ [ ]`");
        return None;
    }
    Some(text.into())
}

/// Fields whose value egret itself or the protocol decides.
const FRAMING: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "range",
];
const PLACEHOLDER_MIN: usize = 8;
const HOLD_SECRET: &str =
    "put `{secret}` where the secret goes: what stands in a file is not secret";
