//! The origin's listening socket: open, or so full that whoever dials gets no answer.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::side::{PATIENCE, Side};

/// The address of the one name that the races are about.
const ORIGIN: &str = "93.184.216.34:0";

pub(crate) struct Door {
    listener: TcpListener,
    /// Connections that fill the queue, so that the kernel answers no further SYN.
    queue: Vec<TcpStream>,
}

impl Door {
    /// Listens on a free port of the origin's address.
    pub(crate) fn open() -> Self {
        Self { listener: listen(128), queue: Vec::new() }
    }

    /// Listens with a queue that is full already: a dial stays under way.
    pub(crate) fn full() -> Self {
        let listener = listen(0);
        let address = listener.local_addr().unwrap();
        // A backlog of zero has room for one. Later attempts hang, which is how it is known.
        let queue = vec![TcpStream::connect_timeout(&address, PATIENCE).unwrap()];
        let another = TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(another.unwrap_err().kind(), ErrorKind::TimedOut, "the queue is not full");
        Self { listener, queue }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The test's own connections to the origin.
    pub(crate) fn known(&self) -> Vec<SocketAddr> {
        self.queue.iter().map(|stream| stream.local_addr().unwrap()).collect()
    }

    /// Takes what filled the queue out of it; the kernel answers the next SYN.
    pub(crate) fn clear(&mut self) {
        for _ in self.queue.drain(..) {
            drop(accept(&self.listener).expect("it is in the queue"));
        }
    }

    /// Takes the proxy's connection.
    pub(crate) fn accept(&self) -> Side {
        Side::new(accept(&self.listener).expect("the proxy dials"))
    }

    /// Takes a connection if one is there already.
    pub(crate) fn accept_if_any(&self) -> Option<Side> {
        self.listener.set_nonblocking(true).unwrap();
        let accepted = self.listener.accept();
        self.listener.set_nonblocking(false).unwrap();
        accepted.ok().map(|(stream, _)| Side::new(stream))
    }
}

fn listen(backlog: i32) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Small, and handed down to what is accepted: a stalled reader is soon full.
    socket.set_recv_buffer_size(1 << 16).unwrap();
    socket.bind(&ORIGIN.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(backlog).unwrap();
    socket.into()
}

fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    listener.set_nonblocking(true).unwrap();
    let accepted = loop {
        match listener.accept() {
            Ok((stream, _)) => break Some(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(_) => break None,
        }
    };
    listener.set_nonblocking(false).unwrap();
    accepted.inspect(|stream| stream.set_nonblocking(false).unwrap())
}
