//! The words of a load case as an attack with figures.
//!
//! A phrase is known by the words that carry it, so that cases of the same form with other figures
//! are understood too. What is not understood is said, and makes the case unchecked.

use std::time::Duration;

use egret_testkit::origin::Toxic;

/// What a load case does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    /// Connections whose heads arrive a byte at a time.
    SlowHeads { connections: usize },
    /// Requests whose bodies arrive a byte at a time, or stop.
    SlowBodies { connections: usize },
    /// Tunnels whose ClientHello arrives a byte at a time.
    SlowHellos { connections: usize },
    /// Connections that say nothing.
    Silent { connections: usize },
    /// Large answers that are read a few bytes a second.
    SlowRead { body: usize, rate: usize, connections: usize },
    /// Heads of a size that never end.
    BigHeads { connections: usize, bytes: usize },
    /// More connections than the limit, by so many.
    OverCap { extra: usize },
    /// A worker with a part of all connections, in percent, beside one that asks at a rate.
    Greedy { percent: usize, rate: usize },
    /// Requests for names that are denied, each another one.
    DistinctHosts { count: usize },
    /// CONNECTs that are denied, so many a second.
    DeniedFlood { rate: usize },
    /// More connections than the process has descriptors.
    Descriptors { limit: usize, connections: usize },
    /// The volume of the records is full.
    DiskFull,
    /// An origin whose network drops every SYN.
    BlackHole,
    /// An origin that accepts and never answers.
    NeverAnswers { requests: usize },
    /// An origin that resets inside an answer.
    ResetInside { after: usize, of: usize },
    /// A bad network on the origin's side.
    Toxic(Toxic),
    /// Clients that are gone before the origin is connected.
    EarlyEnd,
    /// Clients that are gone without a word.
    Vanish { clients: usize },
    /// A signal to end with work under way.
    Drain { tunnels: usize, requests: usize },
    /// The process is killed under load and started again.
    Kill,
    /// Tunnels opened and closed.
    Churn { count: usize },
    /// Many clients of one host.
    HotHost { clients: usize },
    /// Another policy so many times, under so many requests a second.
    Reload { times: usize, rate: usize },
    /// A policy that is none.
    BrokenReload,
}

impl Attack {
    /// Reads the name and the steps of a case; the error says what is not understood.
    pub(crate) fn read(name: &str, steps: &[String]) -> Result<Self, String> {
        let words = Words::of(&format!("{name} : {}", steps.join(" : ")));
        let has = |all: &[&str]| all.iter().all(|word| words.has(word));
        let absent = [
            ("panic", "a released binary has no fault points"),
            ("sigstop", "there are no leases that could lapse"),
            ("handshakes", "nothing terminates TLS"),
        ];
        if let Some((_, why)) = absent.iter().find(|(word, _)| words.has(word)) {
            return Err(format!("no driver: {why}"));
        }
        let connections = words.before("connection").or(words.after("x"));
        let count = || connections.or(words.before("tunnel")).unwrap_or(1000);
        let broken = ["syntax", "invalid", "broken"].iter().any(|word| words.has(word));
        Ok(if words.has("reload") && broken {
            Self::BrokenReload
        } else if words.has("reload") {
            let times = words.after("reload").unwrap_or(100);
            Self::Reload { times, rate: words.before("rps").unwrap_or(100) }
        } else if words.has("ulimit") || words.has("descriptor") {
            let limit = words.after("ulimit").unwrap_or(256);
            Self::Descriptors { limit, connections: connections.unwrap_or(2 * limit) }
        } else if has(&["full"]) && ["log", "audit", "disk"].iter().any(|word| words.has(word)) {
            Self::DiskFull
        } else if words.has("toxi") {
            Self::Toxic(toxic(&words)?)
        } else if has(&["syn", "drop"]) || has(&["black", "hole"]) {
            Self::BlackHole
        } else if has(&["never", "answer"]) {
            Self::NeverAnswers { requests: words.before("request").unwrap_or(200) }
        } else if has(&["rst", "after"]) || has(&["reset", "after"]) {
            let of = words.size_after("of").unwrap_or(10_000);
            Self::ResetInside { after: words.size_after("after").unwrap_or(1000), of }
        } else if words.has("sigterm") {
            let tunnels = words.before("tunnel").unwrap_or(0);
            Self::Drain { tunnels, requests: words.before("request").unwrap_or(0) }
        } else if words.has("sigkill") || words.has("kill") {
            Self::Kill
        } else if words.has("vanish") {
            Self::Vanish { clients: words.before("client").unwrap_or(50) }
        } else if has(&["fin", "before", "connect"]) {
            Self::EarlyEnd
        } else if has(&["churn"]) || has(&["open", "close", "tunnel"]) {
            Self::Churn { count: words.before("tunnel").unwrap_or(10_000) }
        } else if has(&["worker", "cap"]) {
            let percent = words.before("%").unwrap_or(90);
            Self::Greedy { percent, rate: words.before("rps").unwrap_or(10) }
        } else if has(&["distinct", "host"]) {
            Self::DistinctHosts { count: words.before("distinct").unwrap_or(1_000_000) }
        } else if has(&["denied", "rps"]) {
            Self::DeniedFlood { rate: words.before("rps").unwrap_or(1000) }
        } else if has(&["open", "cap"]) {
            Self::OverCap { extra: words.after("cap").unwrap_or(1000) }
        } else if has(&["thread", "host"]) {
            Self::HotHost { clients: words.before("thread").unwrap_or(64) }
        } else if has(&["header", "never", "finished"]) {
            let bytes = words.size_before("header").unwrap_or(60_000);
            Self::BigHeads { connections: count(), bytes }
        } else if has(&["clienthello"]) || has(&["hello", "byte"]) {
            Self::SlowHellos { connections: count() }
        } else if has(&["body", "byte"]) {
            Self::SlowBodies { connections: count() }
        } else if has(&["header", "byte"]) {
            Self::SlowHeads { connections: count() }
        } else if has(&["read", "byte"]) {
            let body = words.size_after("get").unwrap_or(1_000_000);
            let rate = words.size_after("read").unwrap_or(1);
            Self::SlowRead { body, rate, connections: words.after("x").unwrap_or(count()) }
        } else if ["nothing", "silent", "idle"].iter().any(|word| words.has(word)) {
            Self::Silent { connections: count() }
        } else {
            return Err(format!("no driver for the steps `{}`", steps.join("; ")));
        })
    }
}

fn toxic(words: &Words) -> Result<Toxic, String> {
    let ms = words.before("ms").map(|ms| ms as u64);
    let time = ms.map(Duration::from_millis);
    let time = time.or(words.before("s").map(|s| Duration::from_secs(s as u64)));
    let size = words.size();
    Ok(if words.has("bandwidth") {
        Toxic::Bandwidth(size.unwrap_or(8000))
    } else if words.has("latency") {
        Toxic::Latency(time.unwrap_or(Duration::from_millis(500)))
    } else if words.has("slicer") || words.has("slice") {
        Toxic::Slices(size.unwrap_or(16), time.unwrap_or(Duration::from_millis(1)))
    } else if words.has("limit_data") {
        Toxic::LimitData(size.unwrap_or(100))
    } else if words.has("reset_peer") {
        Toxic::ResetAfter(size.unwrap_or(100))
    } else if words.has("slow_close") {
        Toxic::SlowClose(time.unwrap_or(Duration::from_secs(1)))
    } else {
        return Err("no driver for this toxic".to_owned());
    })
}

/// A text as numbers and words in lower case, in order.
#[derive(Debug)]
struct Words(Vec<Token>);

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(f64),
    Word(String),
}

impl Words {
    fn of(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let (mut tokens, mut rest) = (Vec::new(), text.as_str());
        while let Some(first) = rest.chars().next() {
            let digits = |c: char| c.is_ascii_digit() || c == '.';
            let letters = |c: char| c.is_ascii_alphabetic() || c == '_';
            let length = if first.is_ascii_digit() {
                let mut length = rest.find(|c| !digits(c)).unwrap_or(rest.len());
                // `1e6`, but not `5 every`.
                let exponent = rest[length..].strip_prefix('e').unwrap_or_default();
                if exponent.starts_with(|c: char| c.is_ascii_digit()) {
                    let end = exponent.find(|c: char| !c.is_ascii_digit());
                    length += 1 + end.unwrap_or(exponent.len());
                }
                let number = rest[..length].trim_end_matches('.').parse().unwrap_or(0.0);
                tokens.push(Token::Number(number));
                length
            } else if letters(first) {
                let length = rest.find(|c| !letters(c)).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..length].to_owned()));
                length
            } else {
                if first == '%' {
                    tokens.push(Token::Word("%".to_owned()));
                }
                first.len_utf8()
            };
            rest = &rest[length..];
        }
        Self(tokens)
    }

    /// Whether a word begins so.
    fn has(&self, begin: &str) -> bool {
        self.0.iter().any(|token| matches!(token, Token::Word(word) if word.starts_with(begin)))
    }

    /// The number right before a word.
    fn before(&self, begin: &str) -> Option<usize> {
        self.0.windows(2).find_map(|pair| match pair {
            // A unit is the whole word.
            [Token::Number(number), Token::Word(word)]
                if word == begin || begin.len() > 2 && word.starts_with(begin) =>
            {
                Some(*number as usize)
            }
            _ => None,
        })
    }

    /// The first number after a word.
    fn after(&self, begin: &str) -> Option<usize> {
        let at = self.position(begin)?;
        self.0[at..].iter().find_map(|token| match token {
            Token::Number(number) => Some(*number as usize),
            Token::Word(_) => None,
        })
    }

    /// The first size: a number with a unit of bytes.
    fn size(&self) -> Option<usize> {
        sizes(&self.0).next().map(|(_, size)| size)
    }

    /// The first size after a word.
    fn size_after(&self, word: &str) -> Option<usize> {
        sizes(&self.0[self.position(word)?..]).next().map(|(_, size)| size)
    }

    /// The size right before a word.
    fn size_before(&self, begin: &str) -> Option<usize> {
        sizes(&self.0)
            .find(|(at, _)| matches!(self.0.get(at + 2), Some(Token::Word(word)) if word.starts_with(begin)))
            .map(|(_, size)| size)
    }

    fn position(&self, word: &str) -> Option<usize> {
        self.0.iter().position(|token| *token == Token::Word(word.to_owned()))
    }
}

fn sizes(tokens: &[Token]) -> impl Iterator<Item = (usize, usize)> {
    tokens.windows(2).enumerate().filter_map(|(at, pair)| {
        let [Token::Number(number), Token::Word(unit)] = pair else { return None };
        let factor = match unit.as_str() {
            "byte" | "bytes" | "b" => 1.0,
            "kb" => 1e3,
            "kib" => 1024.0,
            "mb" => 1e6,
            "mib" => 1024.0 * 1024.0,
            "gb" => 1e9,
            _ => return None,
        };
        Some((at, (number * factor) as usize))
    })
}

#[cfg(test)]
mod tests;
