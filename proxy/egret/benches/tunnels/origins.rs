//! The origins: one port greets and then stays silent, the other sends bulk.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    bulk,
    ends::{Ends, runtime},
    role::{self, unknown},
};

/// What an idle tunnel is answered with, so that the worker knows that its hello has arrived.
pub(crate) const GREETING: &[u8] = b"greeting";

pub(crate) fn run(address: &str) -> io::Result<()> {
    let runtime = runtime()?;
    let ends = Arc::new(Ends::default());
    let listener = runtime.block_on(TcpListener::bind((address, 0)))?;
    let bulk = bulk::serve(address)?;
    let ready = format!("{} {bulk}", listener.local_addr()?.port());
    let watched = ends.clone();
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let ends = watched.clone();
            tokio::spawn(async move {
                let mut room = [0; 4096];
                if stream.read(&mut room).await.is_ok_and(|read| read > 0)
                    && stream.write_all(GREETING).await.is_ok()
                {
                    ends.watch(stream).await;
                }
            });
        }
    });
    role::answer(&ready, |question| match question {
        ["ends", count] => ends.take(count),
        _ => unknown(question),
    })
}
