//! The least that a relay can do: two threads a connection, blocking, splicing through a pipe. No
//! decision, no limit, no record, no way to cut it.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, pipe, splice};

use crate::{
    measure,
    role::{self, parse, unknown},
};

/// What an ordinary user may ask for at most.
const PIPE: usize = 1 << 20;

pub(crate) fn run(origin: &str) -> io::Result<()> {
    let origin: SocketAddr = parse(origin)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let ready = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for worker in listener.incoming().flatten() {
            thread::spawn(move || relay(&worker, origin));
        }
    });
    role::answer(&ready, |question| match question {
        ["processor"] => Ok(measure::processor_time().to_string()),
        _ => unknown(question),
    })
}

fn relay(worker: &TcpStream, origin: SocketAddr) -> io::Result<()> {
    let origin = &TcpStream::connect(origin)?;
    for stream in [worker, origin] {
        stream.set_nodelay(true)?;
    }
    thread::scope(|scope| {
        scope.spawn(|| one_way(worker, origin));
        one_way(origin, worker)
    })
}

fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (outlet, inlet) = pipe()?;
    fcntl_setpipe_size(&inlet, PIPE)?;
    loop {
        let mut held = splice(from, None, &inlet, None, PIPE, SpliceFlags::MOVE)?;
        if held == 0 {
            return to.shutdown(Shutdown::Write);
        }
        while held > 0 {
            held -= splice(&outlet, None, to, None, held, SpliceFlags::MOVE)?;
        }
    }
}
