//! What the gate costs per request head: a typical one of a package manager behind a proxy, and
//! the smallest one. Prints one line for each.

use std::{
    hint::black_box,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use src::gate::{GateLimits, HeadFact, gate};
use tokio::io::{AsyncRead, ReadBuf};

/// The gate is private to its crate.
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../src"]
mod src {
    pub(crate) mod gate;
}

const TYPICAL: &[u8] =
    b"GET http://registry.example.org/packages/alpha/1.2.3/metadata.json?full=1 \
HTTP/1.1\r\nHost: registry.example.org\r\nUser-Agent: installer/10.2.4 node/20.11.1 linux x64\r\n\
Accept: application/vnd.registry.install-v1+json; q=1.0, application/json; q=0.8, */*\r\n\
Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n\
Proxy-Authorization: Basic d29ya2VyLTE6MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\r\n\
Connection: keep-alive\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n\
If-None-Match: \"5f2b8c7e-1a2b3c\"\r\nX-Session: 2f0d6a1c9b7e4d35\r\n\r\n";
const SMALLEST: &[u8] = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n";

const ROUNDS: u32 = 200_000;

fn main() {
    for (name, head) in [("head", TYPICAL), ("small_head", SMALLEST)] {
        // The best of a few, as the machine is shared.
        let best = (0..5).map(|_| measure(head)).min().unwrap_or_default();
        println!("gate {name}_ns={} bytes={}", best.as_nanos(), head.len());
    }
}

fn measure(head: &'static [u8]) -> Duration {
    let limits = GateLimits {
        head_bytes: 64 << 10,
        target_bytes: 8 << 10,
        fields: 100,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
    };
    let (mut gate, facts) = gate(Repeated(head), limits);
    let cx = &mut Context::from_waker(Waker::noop());
    let mut room = [0; 8192];
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let mut buf = ReadBuf::new(&mut room);
        let read = Pin::new(&mut gate).poll_read(cx, &mut buf);
        assert!(read.is_ready() && buf.filled() == head);
        assert!(matches!(black_box(facts.next()), HeadFact::Passed(_)));
    }
    began.elapsed() / ROUNDS
}

/// One head per read, for ever.
struct Repeated(&'static [u8]);

impl AsyncRead for Repeated {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buf.put_slice(self.0);
        Poll::Ready(Ok(()))
    }
}
