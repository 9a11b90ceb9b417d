//! The workers: each opens tunnels, says hello in them, and notes when they end.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use egret_testkit::hello::HelloShape;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

use crate::{
    bulk,
    ends::{Ends, runtime},
    measure,
    origins::GREETING,
    role::{self, parse, unknown},
};

/// The name of the origin, which the proxy has an address for.
pub(crate) const HOST: &str = "origin.example.com";
/// What every worker shows.
pub(crate) const TOKEN: &str = "not much of a secret";
/// Tunnels of one worker.
pub(crate) const TUNNELS_EACH: usize = 100;

pub(crate) fn id(number: usize) -> String {
    format!("worker-{number}")
}

pub(crate) fn run(proxy: &str, ports: &[&str]) -> io::Result<()> {
    let &[idle, bulk] = ports else { return Err(io::Error::other("two ports are needed")) };
    let proxy: SocketAddr = parse(proxy)?;
    let runtime = runtime()?;
    let ends = Arc::new(Ends::default());
    let hello: Arc<[u8]> = HelloShape::named(HOST).write().into();
    role::answer("ready", |question| match question {
        ["open", worker, count, at_once] => {
            let (worker, count): (usize, usize) = (parse(worker)?, parse(count)?);
            let turns = Arc::new(Semaphore::new(parse(at_once)?));
            let mut opening = JoinSet::new();
            for tunnel in 0..count {
                let head = connect(&id(worker + tunnel / TUNNELS_EACH), idle);
                let (turns, ends, hello) = (turns.clone(), ends.clone(), hello.clone());
                let open = async move {
                    let _turn = turns.acquire().await.map_err(io::Error::other)?;
                    let began = measure::now();
                    let stream = open(proxy, &head, &hello).await?;
                    let took = measure::now() - began;
                    tokio::spawn(async move { ends.watch(stream).await });
                    Ok(took.to_string())
                };
                opening.spawn_on(open, runtime.handle());
            }
            let times: io::Result<Vec<String>> =
                runtime.block_on(opening.join_all()).into_iter().collect();
            Ok(times?.join(" "))
        }
        ["ends", count] => ends.take(count),
        ["bulk"] => {
            let mut stream = std::net::TcpStream::connect(proxy)?;
            stream.write_all(connect(&id(0), bulk).as_bytes())?;
            let mut room = [0; 1024];
            let mut read = 0;
            while !is_opened(&room[..read])? {
                match stream.read(&mut room[read..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    more => read += more,
                }
            }
            receive(stream, &hello)
        }
        ["bulk", relay] => receive(std::net::TcpStream::connect(relay)?, &hello),
        _ => unknown(question),
    })
}

/// Takes the bulk and says how many nanoseconds that took.
fn receive(mut stream: std::net::TcpStream, hello: &[u8]) -> io::Result<String> {
    let began = measure::now();
    stream.write_all(hello)?;
    bulk::receive(&stream)?;
    Ok((measure::now() - began).to_string())
}

fn connect(worker: &str, port: &str) -> String {
    let proof = BASE64_STANDARD.encode(format!("{worker}:{TOKEN}"));
    format!(
        "CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\
         Proxy-Authorization: Basic {proof}\r\n\r\n"
    )
}

/// Opens a tunnel, up to the first bytes from the origin.
async fn open(proxy: SocketAddr, head: &str, hello: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(head.as_bytes()).await?;
    let mut room = [0; 1024];
    let mut read = 0;
    while !is_opened(&room[..read])? {
        match stream.read(&mut room[read..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    stream.write_all(hello).await?;
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).await?;
    Ok(stream)
}

/// Whether the whole head of a 200 is there. Its origin speaks second, so nothing is behind it.
fn is_opened(answer: &[u8]) -> io::Result<bool> {
    if !answer.ends_with(b"\r\n\r\n") {
        return Ok(false);
    }
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(true),
        false => Err(io::Error::other(String::from_utf8_lossy(answer).into_owned())),
    }
}
