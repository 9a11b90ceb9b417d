//! Records as a proxy would have left them, for the verbs that read them.

use serde_json::{Value, json};

use super::place::Place;

/// A trail of records that is put together line by line.
#[derive(Default)]
pub(crate) struct Recorded {
    lines: String,
    seq: u64,
    count: u32,
}

impl Recorded {
    /// Adds a decision, with what differs from a denied CONNECT, and returns its id.
    pub(crate) fn decision(&mut self, fields: Value) -> String {
        let id = id(self.count);
        let mut line = json!({
            "id": id, "time": time(self.count), "event": "decision", "worker": "anonymous",
            "listener": "127.0.0.1:3128", "client": "127.0.0.1:50000", "method": "CONNECT",
            "verdict": "deny", "policy": "00".repeat(32),
        });
        merge(&mut line, fields);
        self.count += 1;
        self.line(line);
        id
    }

    /// Adds a decision and its completion.
    pub(crate) fn exchange(&mut self, fields: Value, end: Value) -> String {
        let id = self.decision(fields.clone());
        let mut line = json!({
            "id": id, "time": time(self.count), "event": "completion", "worker": "anonymous",
            "method": "CONNECT", "bytes_up": 0, "bytes_down": 0, "total_ms": 1, "closed_by": "policy",
        });
        merge(&mut line, fields);
        merge(&mut line, end);
        line.as_object_mut().unwrap().remove("verdict");
        self.line(line);
        id
    }

    /// Adds a denied request for `url`-like parts: method, scheme, host, port and path.
    pub(crate) fn request(
        &mut self,
        (method, host, port, path): (&str, &str, u16, &str),
    ) -> String {
        self.decision(json!({
            "method": method, "scheme": "http", "host": host, "port": port, "path": path,
            "reason": "egress.host_not_allowed",
        }))
    }

    /// Adds a denied CONNECT.
    pub(crate) fn connect(&mut self, host: &str, port: u16) -> String {
        self.decision(json!({ "host": host, "port": port, "reason": "egress.host_not_allowed" }))
    }

    pub(crate) fn line(&mut self, mut line: Value) {
        line["seq"] = self.seq.into();
        self.seq += 1;
        self.raw(&format!("{line}\n"));
    }

    /// Adds whatever it is.
    pub(crate) fn raw(&mut self, text: &str) {
        self.lines += text;
    }

    /// Writes what was added as a file, and begins anew after it.
    pub(crate) fn segment(&mut self, place: &Place, file: &str) {
        place.write(file, &std::mem::take(&mut self.lines));
    }
}

/// The id of exchange N, whose time is N seconds after the first.
pub(crate) fn id(count: u32) -> String {
    // 1,763,730,000,000 ms in the first ten digits, a second more for each.
    let mut milliseconds = BEGIN * 1000 + u64::from(count) * 1000;
    let mut digits = [b'0'; 10];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(milliseconds % 32) as usize];
        milliseconds /= 32;
    }
    format!("{}{count:016}", str::from_utf8(&digits).unwrap())
}

/// The time of exchange N.
pub(crate) fn time(count: u32) -> String {
    let seconds = u64::from(count);
    let (hour, minute, second) = (13 + seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("2025-11-21T{hour:02}:{minute:02}:{second:02}.000000Z")
}

/// 2025-11-21T13:00:00Z.
const BEGIN: u64 = 1_763_730_000;

fn merge(line: &mut Value, fields: Value) {
    for (key, value) in fields.as_object().unwrap() {
        line[key] = value.clone();
    }
}
