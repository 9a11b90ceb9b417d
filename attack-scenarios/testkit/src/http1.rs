//! A tolerant HTTP/1 reader that remembers what it had to tolerate.
//!
//! Origins and clients of the tests read with it: it follows messages that a strict reader would
//! refuse, as the worst receiver might, and notes odd framing and odd chunks, so that a test can
//! say that nothing ambiguous ever crossed the proxy. It is no guard and must never become one.

use std::fmt;

mod chunked;
#[cfg(test)]
mod tests;

/// One request or response, possibly incomplete.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or status line, without its line end.
    pub start: Vec<u8>,
    /// The fields in order; names are lower case, values are trimmed.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The content without chunk framing.
    pub body: Vec<u8>,
    /// The fields after a chunked body.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Framed to its end.
    pub complete: bool,
    /// A response body that only the end of the connection ends.
    pub until_close: bool,
    /// Both framings, several or malformed lengths, or an unknown coding.
    pub odd_framing: bool,
    /// A chunk that a strict sender would not have written so.
    pub odd_chunks: bool,
    /// A chunk extension was there.
    pub chunk_extension: bool,
}

impl Message {
    /// Returns every value of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        values(&self.fields, name)
    }

    /// Returns the first value of a field as text; empty when the field is absent.
    pub fn value(&self, name: &str) -> String {
        self.values(name).first().map(|value| lossy(value)).unwrap_or_default()
    }

    /// Returns the status of a response; 0 where the start line is not a proper status line.
    pub fn status(&self) -> u16 {
        let line = lossy(&self.start);
        let proper = |rest: &str| {
            let rest = rest.strip_prefix(|c: char| c.is_ascii_digit())?.strip_prefix('.')?;
            let rest = rest.strip_prefix(|c: char| c.is_ascii_digit())?.strip_prefix(' ')?;
            let (digits, after) = rest.split_at_checked(3)?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            (plain && (after.is_empty() || after.starts_with(' '))).then(|| digits.parse().ok())?
        };
        line.strip_prefix("HTTP/").and_then(proper).unwrap_or(0)
    }

    /// Returns what follows the status in a status line.
    pub fn reason(&self) -> String {
        lossy(&self.start).splitn(3, ' ').nth(2).unwrap_or_default().to_owned()
    }

    /// Returns the method of a request.
    pub fn method(&self) -> &[u8] {
        self.start.split(|byte| *byte == b' ').next().unwrap_or_default()
    }

    /// Returns the target of a request.
    pub fn target(&self) -> &[u8] {
        self.start.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        lossy(&self.body)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", lossy(&self.start))?;
        for (name, value) in &self.fields {
            write!(f, " {}: {:?}", lossy(name), lossy(value))?;
        }
        write!(f, " [{} bytes, complete: {}]", self.body.len(), self.complete)
    }
}

/// Reads every request of `data`; the last one may be incomplete.
pub fn requests(data: &[u8]) -> Vec<Message> {
    let (mut messages, mut at) = (Vec::new(), 0);
    while let Some((message, end)) = read_one(data, at, None, false) {
        let complete = message.complete;
        messages.push(message);
        at = end;
        if !complete || at >= data.len() {
            break;
        }
    }
    messages
}

/// Reads every response of `data`, interim ones too. `methods` are those of the requests, in
/// order; the last stands for all that follow. `closed` says that nothing more will come.
pub fn responses(data: &[u8], methods: &[Vec<u8>], closed: bool) -> Vec<Message> {
    let (mut messages, mut at) = (Vec::<Message>::new(), 0);
    loop {
        let finals = messages.iter().filter(|message| message.status() / 100 != 1).count();
        let method = methods.get(finals).or(methods.last()).map_or(&b"GET"[..], Vec::as_slice);
        let Some((message, end)) = read_one(data, at, Some(method), closed) else { break };
        let complete = message.complete;
        messages.push(message);
        at = end;
        if !complete || at >= data.len() {
            break;
        }
    }
    messages
}

/// Returns the offset behind the first empty line at or after `at`, bare LF tolerated.
pub fn head_end(data: &[u8], at: usize) -> Option<usize> {
    let mut from = at;
    while let Some(found) = data.get(from..)?.iter().position(|byte| *byte == b'\n') {
        let next = from + found + 1;
        match data.get(next..) {
            Some([b'\n', ..]) => return Some(next + 1),
            Some([b'\r', b'\n', ..]) => return Some(next + 2),
            Some(_) | None => from = next,
        }
    }
    None
}

/// Reads the message at `at`: it and the offset behind it, or nothing while its head is open.
fn read_one(
    data: &[u8],
    at: usize,
    response_to: Option<&[u8]>,
    closed: bool,
) -> Option<(Message, usize)> {
    let mut at = at;
    while response_to.is_none() && data.get(at..)?.starts_with(b"\r\n") {
        at += 2;
    }
    let end = head_end(data, at)?;
    let head = &data[at..end];
    let first = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
    let (start, block) = (&head[..first], &head[(first + 1).min(head.len())..]);
    let mut message = Message {
        start: start.strip_suffix(b"\r").unwrap_or(start).to_vec(),
        fields: fields(block),
        ..Message::default()
    };
    let lengths: Vec<Vec<u8>> = own(message.values("content-length"));
    let codings: Vec<Vec<u8>> = own(message.values("transfer-encoding"));
    message.odd_framing = lengths.len() > 1
        || codings.len() > 1
        || !(lengths.is_empty() || codings.is_empty())
        || lengths.iter().any(|value| !digits(value))
        || codings.iter().any(|value| !value.eq_ignore_ascii_case(b"chunked"));

    if let Some(method) = response_to {
        let status = message.status();
        let bodiless = matches!(status, 100..=199 | 204 | 304)
            || method == b"HEAD"
            || method == b"CONNECT" && status / 100 == 2;
        if bodiless {
            message.complete = true;
            return Some((message, end));
        }
    }
    if codings.iter().any(|value| lossy(value).to_ascii_lowercase().contains("chunked")) {
        let end = chunked::read(data, end, &mut message);
        message.complete = end.is_some();
        return Some((message, end.unwrap_or(data.len())));
    }
    if let Some(length) = lengths.first().filter(|value| digits(value)) {
        let length = lossy(&length[..length.len().min(18)]).parse::<usize>().unwrap_or(usize::MAX);
        let stop = end.saturating_add(length).min(data.len());
        message.body = data[end..stop].to_vec();
        message.complete = message.body.len() == length;
        return Some((message, stop));
    }
    if response_to.is_some() {
        message.until_close = true;
        message.body = data[end..].to_vec();
        message.complete = closed;
        return Some((message, data.len()));
    }
    message.complete = true;
    Some((message, end))
}

/// Splits a block of lines into fields; a folded line joins the one before it.
fn fields(block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields = Vec::<(Vec<u8>, Vec<u8>)>::new();
    for line in block.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line.first(), fields.last_mut()) {
            (None, _) => {}
            (Some(b' ' | b'\t'), Some((_, value))) => {
                value.push(b' ');
                value.extend(line.trim_ascii());
            }
            (Some(_), _) => {
                let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
                let name = line[..colon].trim_ascii().to_ascii_lowercase();
                let value = line.get(colon + 1..).unwrap_or_default().trim_ascii().to_vec();
                fields.push((name, value));
            }
        }
    }
    fields
}

fn values<'a>(fields: &'a [(Vec<u8>, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    let name = name.to_ascii_lowercase();
    let named = fields.iter().filter(|(key, _)| *key == name.as_bytes());
    named.map(|(_, value)| value.as_slice()).collect()
}

fn own(values: Vec<&[u8]>) -> Vec<Vec<u8>> {
    values.into_iter().map(<[u8]>::to_vec).collect()
}

fn digits(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
