//! An address that drops every SYN, as a firewall without manners does.
//!
//! No packet filter is needed: the kernel drops the SYNs of a listener whose queue is full.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

/// One address and port that never answers, as long as this lives.
#[derive(Debug)]
pub struct BlackHole {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens the hole, and returns when a connection attempt has been seen to vanish in it.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let listener = super::listen_with(address, 0)?;
        let mut queue = Vec::new();
        while queue.len() < QUEUE {
            match TcpStream::connect_timeout(&address, DROPPED) {
                Ok(stream) => queue.push(stream),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Self { _listener: listener, _queue: queue });
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the queue of a listener never filled"))
    }
}

/// More than the kernel admits to a queue of length 0.
const QUEUE: usize = 16;
/// A SYN on the loopback device that is not answered by then was dropped.
const DROPPED: Duration = Duration::from_millis(300);
