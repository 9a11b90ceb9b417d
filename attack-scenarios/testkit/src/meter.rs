//! Well-behaved clients at a steady, modest rate, and how long each of their requests took.
//!
//! The time of a request runs from the moment at which it was due, not from the one at which a
//! late client got round to it: a proxy that stalls is charged for everything that waited
//! meanwhile. An answer that is not whole, or has another status than it should, is a failure,
//! whatever the time.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    client::{Client, is_timeout},
    http1::Message,
};

/// What the clients do.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The request, whole; its answer has a length.
    pub request: Vec<u8>,
    /// The statuses that count as a success.
    pub statuses: &'static [u16],
    /// How many clients.
    pub clients: usize,
    /// Requests a second of each.
    pub rate: u32,
    /// Whether each request has a connection of its own.
    pub connections: Connections,
}

/// How clients use connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// One for each request.
    Fresh,
    /// One for all, opened before the first request.
    Kept,
    /// Every other client keeps its own.
    Mixed,
}

/// Running clients.
#[derive(Debug)]
pub struct Meter {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Latencies>>,
}

/// What the clients saw.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    /// The time of each success, in ascending order.
    pub times: Vec<Duration>,
    /// What went wrong, and when.
    pub failures: Vec<String>,
}

impl Meter {
    /// Starts the clients.
    pub fn start(client: &Client, pattern: &Pattern) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let clients = (0..pattern.clients)
            .map(|number| {
                let (client, stop) = (client.clone(), Arc::clone(&stop));
                let (request, statuses) = (pattern.request.clone(), pattern.statuses);
                let keeps = match pattern.connections {
                    Connections::Fresh => false,
                    Connections::Kept => true,
                    Connections::Mixed => number % 2 == 0,
                };
                let every = Duration::from_secs(1) / pattern.rate.max(1);
                // Spread over the period, so that the clients do not come in step.
                let first = every * u32::try_from(number).unwrap_or(0)
                    / u32::try_from(pattern.clients).unwrap_or(1);
                thread::spawn(move || {
                    let ask = |stream: &mut TcpStream| {
                        let answer = ask(stream, &request)?;
                        let line = String::from_utf8_lossy(&answer.start).into_owned();
                        let expected = statuses.contains(&answer.status());
                        if expected { Ok(()) } else { Err(io::Error::other(line)) }
                    };
                    run(&client, ask, keeps, first, every, &stop)
                })
            })
            .collect();
        Self { stop, clients }
    }

    /// Ends the clients and returns what they saw.
    pub fn finish(self) -> Latencies {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Latencies::default();
        for client in self.clients {
            match client.join() {
                Ok(seen) => all.add(seen),
                Err(_) => all.failures.push("a client of the test panicked".to_owned()),
            }
        }
        all
    }
}

impl Latencies {
    /// Takes over what others saw.
    pub fn add(&mut self, others: Self) {
        self.times.extend(others.times);
        self.times.sort_unstable();
        self.failures.extend(others.failures);
    }

    /// Returns the time within which this part of the requests was answered; zero when there was
    /// none.
    pub fn quantile(&self, part: f64) -> Duration {
        let last = self.times.len().saturating_sub(1);
        let at = (last as f64 * part).ceil() as usize;
        self.times.get(at.min(last)).copied().unwrap_or_default()
    }

    /// Returns which part of all requests succeeded; 0 when there was none.
    pub fn success(&self) -> f64 {
        let all = self.times.len() + self.failures.len();
        if all == 0 { 0.0 } else { self.times.len() as f64 / all as f64 }
    }
}

fn run(
    client: &Client,
    ask: impl Fn(&mut TcpStream) -> io::Result<()>,
    keeps: bool,
    first: Duration,
    every: Duration,
    stop: &AtomicBool,
) -> Latencies {
    let (begin, mut seen, mut kept) = (Instant::now(), Latencies::default(), None);
    if keeps {
        kept = open(client).ok();
    }
    for turn in 0.. {
        let due = begin + first + every * turn;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let stream = match kept.take() {
            Some(stream) => Ok(stream),
            None => open(client),
        };
        match stream.and_then(|mut stream| ask(&mut stream).map(|()| stream)) {
            Ok(stream) => {
                seen.times.push(due.elapsed());
                kept = keeps.then_some(stream);
            }
            Err(error) => {
                let at = begin.elapsed().as_millis();
                seen.failures.push(format!("{error} ({at} ms in, {:?} late)", due.elapsed()));
            }
        }
    }
    seen
}

/// Opens a connection on which [`ask`] waits for ten seconds.
pub fn open(client: &Client) -> io::Result<TcpStream> {
    let stream = client.connect()?.socket().try_clone()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends one request and returns its answer once that is whole.
pub fn ask(stream: &mut TcpStream, request: &[u8]) -> io::Result<Message> {
    stream.write_all(request)?;
    let method = [request.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec()];
    let (mut heard, mut buffer) = (Vec::new(), [0; 16384]);
    loop {
        let answers = crate::http1::responses(&heard, &method, false);
        if let Some(answer) = answers.into_iter().find(|answer| answer.complete) {
            return Ok(answer);
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => heard.extend(&buffer[..length]),
            Err(error) if is_timeout(&error) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
}

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_time_that_was_measured() {
        let times = (1..=200).map(Duration::from_millis).collect();
        let seen = Latencies { times, failures: Vec::new() };
        assert_eq!(seen.quantile(0.5), Duration::from_millis(101));
        assert_eq!(seen.quantile(0.99), Duration::from_millis(199));
        assert_eq!(seen.quantile(1.0), Duration::from_millis(200));
        assert_eq!(Latencies::default().quantile(0.99), Duration::ZERO);
        assert!((seen.success() - 1.0).abs() < f64::EPSILON);
        let failed = Latencies { times: Vec::new(), failures: vec!["closed".to_owned()] };
        assert!(failed.success() < f64::EPSILON);
    }
}
