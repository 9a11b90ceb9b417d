//! One gigabyte from an origin to a worker, with blocking calls, so that neither end is what
//! limits the way between them.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

/// What goes through the tunnel for one measurement.
pub(crate) const BYTES: u64 = 1 << 30;

const PIECE: usize = 256 << 10;

/// Sends bulk to whoever says something; returns the port.
pub(crate) fn serve(address: &str) -> io::Result<u16> {
    let listener = TcpListener::bind((address, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who does not get all of it says so.
            let _ = send(stream);
        }
    });
    Ok(port)
}

fn send(mut stream: TcpStream) -> io::Result<()> {
    let mut room = [0; 4096];
    if stream.read(&mut room)? == 0 {
        return Ok(());
    }
    let piece = vec![0x17; PIECE];
    for _ in 0..BYTES / PIECE as u64 {
        stream.write_all(&piece)?;
    }
    stream.shutdown(std::net::Shutdown::Write)
}

/// Takes all of it; `stream` has been led to the origin already.
pub(crate) fn receive(mut stream: &TcpStream) -> io::Result<()> {
    let mut room = vec![0; PIECE];
    let mut left = BYTES;
    while left > 0 {
        match stream.read(&mut room)? as u64 {
            0 => return Err(io::Error::other(format!("{left} bytes of the bulk are missing"))),
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
