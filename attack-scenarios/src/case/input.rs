//! What a case sends, by kind.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::{Configured, decode};
use egret_testkit::{
    client::{Segment, Wait},
    dns::Entry,
    hello::HelloShape,
    origin::Step,
};

/// What a case sends.
#[derive(Debug, Clone)]
pub enum Input {
    /// `CONNECT authority`, with the same string as Host.
    Connect {
        /// As it stands on the wire.
        authority: String,
    },
    /// A request in absolute form.
    Absolute {
        /// The method.
        method: String,
        /// The target.
        url: String,
        /// The Host field.
        host: String,
    },
    /// Bytes.
    Raw {
        /// In order.
        segments: Vec<Segment>,
        /// Written as `segments`: then the verdict speaks of the last one.
        several: bool,
    },
    /// A tunnel, and what is done in it.
    Tls(Box<TlsInput>),
    /// Requests by a scripted name server.
    Dns {
        /// `CONNECT …`, `GET …`, `wait …`, in order.
        requests: Vec<String>,
        /// What the name server does.
        script: Vec<Entry>,
    },
    /// A hostile answer of the origin.
    Response(Box<Response>),
    /// Steps in words, which [`crate::load`] understands or reports as unchecked.
    Load(Vec<String>),
    /// A proxy that is set up otherwise.
    Config(Box<Configured>),
    /// Nothing that can be played here, and why.
    Undriven(String),
}

impl Input {
    /// Returns what the name server does.
    pub(crate) fn script(&self) -> &[Entry] {
        match self {
            Self::Dns { script, .. } => script,
            Self::Connect { .. }
            | Self::Absolute { .. }
            | Self::Raw { .. }
            | Self::Tls(_)
            | Self::Response(_)
            | Self::Load(_)
            | Self::Config(_)
            | Self::Undriven(_) => &[],
        }
    }

    /// Returns how the proxy is set up, where that is not the usual.
    pub(crate) fn configured(&self) -> Option<&Configured> {
        match self {
            Self::Config(configured) => Some(configured),
            Self::Connect { .. }
            | Self::Absolute { .. }
            | Self::Raw { .. }
            | Self::Tls(_)
            | Self::Dns { .. }
            | Self::Response(_)
            | Self::Load(_)
            | Self::Undriven(_) => None,
        }
    }
}

/// A tunnel, and what is done in it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsInput {
    /// The authority of the CONNECT.
    pub connect: String,
    /// The server name; absent or null means none.
    #[serde(default)]
    pub sni: Option<String>,
    /// Several server names.
    #[serde(default)]
    pub sni_list: Vec<String>,
    /// The server name as bytes.
    pub sni_hex: Option<String>,
    /// The visible server name beside an encrypted one.
    pub sni_outer: Option<String>,
    /// Asks for an encrypted ClientHello extension.
    pub ech: Option<String>,
    /// ALPN.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// Sizes of TLS records.
    #[serde(default)]
    pub record_split: Vec<usize>,
    /// Sizes of TCP segments.
    #[serde(default)]
    pub tcp_split: Vec<usize>,
    /// A request to send inside TLS.
    pub inner: Option<String>,
    /// Sends nothing for this long.
    pub client_silent_ms: Option<u64>,
    /// Text in place of a ClientHello.
    pub raw_after_200: Option<String>,
    /// Bytes in place of a ClientHello.
    pub raw_hex_after_200: Option<String>,
}

impl TlsInput {
    /// Returns the ClientHello that the case describes; `None` when its bytes are not hexadecimal.
    pub fn hello(&self) -> Option<HelloShape> {
        let visible = self.sni.as_ref().or(self.sni_outer.as_ref());
        let mut names: Vec<Vec<u8>> = if self.sni_list.is_empty() {
            visible.into_iter().map(|name| name.as_bytes().to_vec()).collect()
        } else {
            self.sni_list.iter().map(|name| name.as_bytes().to_vec()).collect()
        };
        if let Some(hex) = &self.sni_hex {
            names = vec![egret_testkit::from_hex(hex)?];
        }
        names.retain(|name| !name.is_empty());
        Some(HelloShape {
            names,
            ech: self.ech.is_some(),
            protocols: Vec::new(),
            record_split: self.record_split.clone(),
        })
    }
}

/// A hostile answer of the origin.
#[derive(Debug, Clone)]
pub struct Response {
    /// The method of the request.
    pub method: String,
    /// Its target in absolute form.
    pub url: String,
    /// Whether it carries a body.
    pub with_body: bool,
    /// What the origin does.
    pub steps: Arc<[Step]>,
    /// The first line of what it sends.
    pub first_line: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connect {
    authority: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Absolute {
    method: String,
    url: String,
    host: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    bytes_b64: Option<String>,
    #[serde(default, rename = "bytes_repr")]
    _bytes_repr: Option<String>,
    segments: Option<Vec<RawSegment>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSegment {
    #[serde(default)]
    bytes_b64: String,
    #[serde(default, rename = "bytes_repr")]
    _bytes_repr: Option<String>,
    wait_before: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dns {
    requests: Vec<String>,
    script: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Steps {
    steps: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResponse {
    client_request: String,
    upstream_response: Value,
}

impl Input {
    /// Reads the input of a kind. What has no driver is no error; what is broken is one.
    pub(super) fn parse(kind: &str, input: Value) -> Result<Self, String> {
        match kind {
            "connect" => {
                let Connect { authority } = read(input)?;
                Ok(Self::Connect { authority })
            }
            "absolute" => {
                let Absolute { method, url, host } = read(input)?;
                Ok(Self::Absolute { method, url, host })
            }
            "raw" => raw(read(input)?),
            "tls" => match read::<TlsInput>(input) {
                Ok(input) => Ok(Self::Tls(Box::new(input))),
                Err(why) => Ok(Self::Undriven(format!("no driver for this tunnel ({why})"))),
            },
            "dns" => {
                let Dns { requests, script } = read(input)?;
                match read(script) {
                    Ok(script) => Ok(Self::Dns { requests, script }),
                    Err(why) => Ok(Self::Undriven(format!("no driver for this script ({why})"))),
                }
            }
            "response" => response(read(input)?),
            "load" => {
                let Steps { steps } = read(input)?;
                Ok(Self::Load(steps))
            }
            "cred" => Ok(steps_of_a_worker(input)),
            other => Ok(Self::Undriven(format!("no driver for kind {other}"))),
        }
    }
}

/// Cases of kind `cred` that a worker can play without any credential.
fn steps_of_a_worker(input: Value) -> Input {
    let steps: Vec<&str> =
        input["steps"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let byte = |word: &str| match word {
        "newline" | "LF" => Some(b'\n'),
        "CR" => Some(b'\r'),
        "NUL" => Some(0),
        "TAB" => Some(b'\t'),
        "ESC" | "escape" => Some(0x1b),
        _ => None,
    };
    let forged = || {
        let [step] = steps[..] else { return None };
        let odd = step.strip_prefix("worker: TLS SNI with ")?.strip_suffix(" bytes")?;
        let name = [b"api.example.com", &[byte(odd)?][..], FORGED_LINE.as_bytes()].concat();
        let sni_hex = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let connect = "api.example.com:443".to_owned();
        Some(TlsInput { connect, sni_hex: Some(sni_hex), ..TlsInput::default() })
    };
    match forged() {
        Some(tls) => Input::Tls(Box::new(tls)),
        None => Input::Undriven("no driver for kind cred".to_owned()),
    }
}

/// What a worker would have stand in a log as a line of its own.
pub(crate) const FORGED_LINE: &str = r#"{"event":"decision","verdict":"forged"}"#;

pub(super) fn read<T: for<'a> Deserialize<'a>>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn raw(Raw { bytes_b64, _bytes_repr: _, segments }: Raw) -> Result<Input, String> {
    match (bytes_b64, segments) {
        (Some(bytes), None) => {
            let segments = vec![Segment::now(&decode(&bytes)?)];
            Ok(Input::Raw { segments, several: false })
        }
        (None, Some(list)) => {
            let segment = |RawSegment { bytes_b64, _bytes_repr: _, wait_before }| {
                let wait = match wait_before.as_str() {
                    "none" => Wait::Nothing,
                    "response" => Wait::Response,
                    "fin" => Wait::Fin,
                    other => {
                        let time = other.strip_suffix("ms").and_then(|digits| digits.parse().ok());
                        let time = time.ok_or_else(|| format!("wait_before `{other}`"))?;
                        Wait::For(Duration::from_millis(time))
                    }
                };
                Ok(Segment { bytes: decode(&bytes_b64)?, wait })
            };
            let segments = list.into_iter().map(segment).collect::<Result<_, String>>()?;
            Ok(Input::Raw { segments, several: true })
        }
        (Some(_), Some(_)) | (None, None) => Err("bytes_b64 or segments, one of them".to_owned()),
    }
}

fn response(
    RawResponse { client_request, upstream_response }: RawResponse,
) -> Result<Input, String> {
    let mut words = client_request.split(' ');
    let (Some(method), Some(url)) = (words.next(), words.next()) else {
        return Err(format!("client_request `{client_request}`"));
    };
    let Some(steps) = steps(&upstream_response)? else {
        return Ok(Input::Undriven(format!("no driver for the answer {upstream_response}")));
    };
    let first_line = match steps.first() {
        Some(Step::Send(bytes) | Step::Repeat(bytes, _)) => {
            bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec()
        }
        Some(Step::Wait(_) | Step::Close | Step::Reset) | None => Vec::new(),
    };
    Ok(Input::Response(Box::new(Response {
        method: method.to_owned(),
        url: url.to_owned(),
        with_body: words.next().is_some(),
        steps: steps.into(),
        first_line,
    })))
}

/// What the origin sends, by the words of the corpus; `None` for words without a player.
fn steps(answer: &Value) -> Result<Option<Vec<Step>>, String> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let number = |name: &str| {
        let number = answer.get(name).and_then(Value::as_u64)?;
        usize::try_from(number).ok()
    };
    let send = |text: String| Step::Send(text.into_bytes());
    let (head, tail) = ("HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n\r\nok");
    if let Some(bytes) = text("bytes_b64") {
        return Ok(Some(vec![Step::Send(decode(bytes)?)]));
    }
    Ok(match (text("repeat"), text("repeat_header"), number("count")) {
        (Some(repeat), _, Some(count)) => {
            Some(vec![Step::Repeat(repeat.repeat(1000).into_bytes(), count / 1000)])
        }
        (None, Some(line), Some(count)) => {
            let lines = format!("{line}\r\n").repeat(count);
            Some(vec![send(format!("{head}{lines}{tail}"))])
        }
        (None, None, Some(count)) if number("chunk_size") == Some(1) => Some(vec![
            send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")),
            Step::Repeat(b"1\r\na\r\n".repeat(5000), count.min(500_000) / 5000),
            send("0\r\n\r\n".to_owned()),
        ]),
        (None, None, None) => {
            if let (Some(_), Some(size)) = (text("stream"), number("bytes")) {
                let filler = Step::Repeat(vec![b'a'; 50_000], size / 50_000);
                Some(vec![send(format!("{head}X: ")), filler])
            } else if let (Some(_), Some(commas)) = (text("header"), number("commas")) {
                let value = ",0".repeat(commas);
                Some(vec![send(format!("{head}Warning: 0{value}\r\n{tail}"))])
            } else {
                text("early").map(|early| vec![send(early.to_owned())])
            }
        }
        (Some(_), _, None) | (None, Some(_), None) | (None, None, Some(_)) => None,
    })
}
