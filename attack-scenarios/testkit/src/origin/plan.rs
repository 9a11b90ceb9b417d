//! How origins behave until the next reset.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;

use crate::{
    http1::Message,
    pki::{Flaw, GOOD_NAMES, Pki},
};

/// What every origin does. The default of each field is the ordinary server.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What HTTP requests are answered with.
    pub answer: Answer,
    /// Who the origin says it is.
    pub identity: Identity,
    /// Addresses that reset every connection.
    pub refuse: Vec<IpAddr>,
    /// Addresses that accept, read, and never say a word.
    pub hang: Vec<IpAddr>,
    /// Answers a request as soon as its head is there, before the body has come.
    pub early: bool,
    /// Ports that speak something else than HTTP.
    pub services: BTreeMap<u16, Service>,
    /// Addresses whose answers travel badly.
    pub toxics: BTreeMap<IpAddr, Toxic>,
    /// Keeps no log: neither bytes nor connections that have ended. For floods, which would fill
    /// the memory and the descriptors of the test.
    pub forgets: bool,
}

impl Plan {
    /// Returns the plan of good servers with a certificate for the usual names.
    pub fn good(pki: &Pki) -> Result<Self, rcgen::Error> {
        Ok(Self::with(Identity::Certified(pki.origin(&GOOD_NAMES, Flaw::None)?)))
    }

    /// Returns the plan of otherwise good servers with an identity.
    pub fn with(identity: Identity) -> Self {
        Self {
            answer: Answer::Ok,
            identity,
            refuse: Vec::new(),
            hang: Vec::new(),
            early: false,
            services: BTreeMap::new(),
            toxics: BTreeMap::new(),
            forgets: false,
        }
    }

    /// Returns this plan with other answers.
    #[must_use]
    pub fn answering(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }
}

/// Computes what an origin does for a request.
pub type Respond = Arc<dyn Fn(&Message) -> Vec<Step> + Send + Sync>;

/// How HTTP requests are answered.
#[derive(Clone)]
pub enum Answer {
    /// `200` with the body `ok`, on a connection that is kept alive.
    Ok,
    /// These steps for the first request of every connection; then the connection ends after a
    /// pause in which a wrong reuse would show.
    Script(Arc<[Step]>),
    /// Steps computed for each request; the connection is kept unless a step ends it.
    With(Respond),
}

impl Answer {
    /// Returns the answer that sends these bytes once.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Script([Step::Send(bytes.into())].into())
    }

    /// Returns the answer that sends these pieces once, each in its own write.
    pub fn pieces<B: Into<Vec<u8>>>(pieces: impl IntoIterator<Item = B>, pause: Duration) -> Self {
        let steps = pieces.into_iter().flat_map(|p| [Step::Send(p.into()), Step::Wait(pause)]);
        Self::Script(steps.collect())
    }

    /// Returns the answer that a function computes for each request.
    pub fn with(answer: impl Fn(&Message) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::With(Arc::new(answer))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("Ok"),
            Self::Script(steps) => write!(f, "Script({} steps)", steps.len()),
            Self::With(_) => f.write_str("With(…)"),
        }
    }
}

/// One thing that an origin does for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends the same bytes many times, without holding them all.
    Repeat(Vec<u8>, usize),
    /// Does nothing for a while.
    Wait(Duration),
    /// Ends the connection in good order.
    Close,
    /// Ends the connection with a reset.
    Reset,
}

/// What an origin does where a TLS handshake would begin.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Proves itself with a certificate.
    Certified(Arc<ServerConfig>),
    /// Answers HTTP in cleartext on port 443.
    Plaintext,
    /// Resets.
    Reset,
    /// Sends a fatal alert: protocol_version.
    Alert,
}

/// What a port speaks, where it is not HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// Sends back whatever comes.
    Echo,
    /// Speaks first, as SSH and SMTP do, then echoes.
    Banner(Vec<u8>),
    /// Reads everything and says nothing.
    Sink,
}

/// What befalls the bytes that an origin sends, as a bad network would have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toxic {
    /// Lets so many bytes pass in a second.
    Bandwidth(usize),
    /// Holds every write back for this long.
    Latency(Duration),
    /// Passes bytes in pieces of a size, with a pause after each.
    Slices(usize, Duration),
    /// Ends the connection in good order after so many bytes.
    LimitData(usize),
    /// Resets the connection after so many bytes.
    ResetAfter(usize),
    /// Ends the connection this much later than the origin does.
    SlowClose(Duration),
}
