//! Workers that keep asking at a steady rate, each request another one, and what became of each.
//!
//! Where [`crate::meter`] says how fast, this says what happened: a request has a number of its own
//! and ends in one of a closed set of outcomes, so that a test can hold it against the records of
//! the proxy and against what the origins saw. Nothing is asked twice: what fails has failed.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    client::{Client, is_timeout},
    http1::{self, Message},
    meter::Connections,
};

/// How many ask, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many workers.
    pub workers: u32,
    /// Requests a second of all of them together.
    pub rate: u32,
    /// Whether requests share a connection; each tunnel has its own.
    pub connections: Connections,
}

/// One thing to ask.
#[derive(Debug, Clone)]
pub enum Ask {
    /// A request, whole, whose answer has a length.
    Request(Vec<u8>),
    /// A CONNECT, and what is said in the tunnel to an origin that echoes.
    Tunnel {
        /// The head of the CONNECT.
        connect: Vec<u8>,
        /// The first bytes in the tunnel.
        hello: Vec<u8>,
    },
}

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its number: no two have the same.
    pub number: u64,
    /// When its first byte was sent.
    pub began: Instant,
    /// When its outcome was known.
    pub ended: Instant,
    /// Whether its connection had carried another one before.
    pub reused: bool,
    /// Its outcome.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// With a whole answer; of a CONNECT, with a refusal.
    Answered(Message),
    /// With a tunnel in which all that was said came back.
    Carried,
    /// With a tunnel that ended before that.
    Granted,
    /// With a connection that ended, after so many bytes of an answer.
    Broken(usize),
    /// Without a connection.
    NotConnected,
    /// With nothing whole within the time, after so many bytes.
    Silent(usize),
}

impl Asked {
    /// Returns the whole answer, where there was one; a tunnel that was granted has none.
    pub fn answer(&self) -> Option<&Message> {
        match &self.outcome {
            Outcome::Answered(message) => Some(message),
            Outcome::Carried
            | Outcome::Granted
            | Outcome::Broken(_)
            | Outcome::NotConnected
            | Outcome::Silent(_) => None,
        }
    }

    /// Returns the status of the answer; 0 where there was none.
    pub fn status(&self) -> u16 {
        self.answer().map_or(0, Message::status)
    }

    /// Whether the proxy did what was asked, to the end.
    pub fn is_served(&self) -> bool {
        self.status() / 100 == 2 || matches!(self.outcome, Outcome::Carried)
    }
}

/// Running workers.
#[derive(Debug)]
pub struct Workers {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Asked>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts workers that ask what a function says for each number; numbers begin at `first`.
    pub fn start(
        client: &Client,
        pace: Pace,
        first: u64,
        ask: impl Fn(u64) -> Ask + Send + Sync + 'static,
    ) -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Asked>>>::default());
        let (ask, begin) = (Arc::new(ask), Instant::now());
        let every = Duration::from_secs(1) * pace.workers / pace.rate.max(1);
        let threads = (0..pace.workers).map(|worker| {
            let keeps = match pace.connections {
                Connections::Fresh => false,
                Connections::Kept => true,
                Connections::Mixed => worker % 2 == 0,
            };
            let (client, stop, seen) = (client.clone(), stop.clone(), seen.clone());
            let (ask, first_due) = (ask.clone(), begin + every * worker / pace.workers);
            thread::spawn(move || {
                let mut kept = None;
                for turn in 0.. {
                    let due = first_due + every * turn;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let number = first + u64::from(turn * pace.workers + worker);
                    let asked = one(&client, number, &ask(number), &mut kept);
                    if !keeps {
                        kept = None;
                    }
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
                }
            })
        });
        Self { threads: threads.collect(), stop, seen }
    }

    /// Returns how many requests have an outcome.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes what has an outcome by now.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until so many requests have an outcome; false when they have not within the time.
    pub fn wait_for(&self, count: usize, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.count() < count {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Lets no worker begin another request.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Lets each worker end its request under way, and returns what has not been taken.
    ///
    /// # Panics
    /// When a worker did.
    pub fn finish(self) -> Vec<Asked> {
        self.stop();
        for thread in self.threads {
            thread.join().expect("a worker of the test ended in good order");
        }
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn one(client: &Client, number: u64, ask: &Ask, kept: &mut Option<TcpStream>) -> Asked {
    let began = Instant::now();
    let done = |reused, outcome| Asked { number, began, ended: Instant::now(), reused, outcome };
    let stream = match ask {
        Ask::Request(_) => kept.take(),
        Ask::Tunnel { .. } => None,
    };
    let reused = stream.is_some();
    let opened = stream.map_or_else(|| crate::meter::open(client), Ok);
    let Ok(mut stream) = opened else { return done(reused, Outcome::NotConnected) };
    let outcome = match ask {
        Ask::Request(request) => {
            let outcome = converse(&mut stream, request);
            if let Outcome::Answered(answer) = &outcome
                && !answer.value("connection").eq_ignore_ascii_case("close")
            {
                *kept = Some(stream);
            }
            outcome
        }
        Ask::Tunnel { connect, hello } => {
            let outcome = converse(&mut stream, connect);
            let granted = matches!(&outcome, Outcome::Answered(answer) if answer.status() == 200);
            match granted.then(|| echoed(&mut stream, hello)) {
                None => outcome,
                Some(Ok(())) => Outcome::Carried,
                Some(Err(_)) => Outcome::Granted,
            }
        }
    };
    done(reused, outcome)
}

/// Sends a head and reads its answer, and nothing that follows it.
fn converse(stream: &mut TcpStream, request: &[u8]) -> Outcome {
    let method = [request.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec()];
    let mut heard = Vec::new();
    if stream.write_all(request).is_err() {
        // What was answered before the connection ended still counts.
        let _ = stream.read_to_end(&mut heard);
    }
    let mut buffer = [0; 4096];
    loop {
        let answers = http1::responses(&heard, &method, false);
        if let Some(answer) = answers.into_iter().find(|answer| answer.complete) {
            return Outcome::Answered(answer);
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Outcome::Broken(heard.len()),
            Ok(length) => heard.extend(&buffer[..length]),
            Err(error) if is_timeout(&error) => return Outcome::Silent(heard.len()),
            Err(_) => return Outcome::Broken(heard.len()),
        }
    }
}

fn echoed(stream: &mut TcpStream, hello: &[u8]) -> io::Result<()> {
    stream.write_all(hello)?;
    let mut back = vec![0; hello.len()];
    stream.read_exact(&mut back)?;
    if back == hello { Ok(()) } else { Err(io::Error::other("something else came back")) }
}
