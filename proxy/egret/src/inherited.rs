//! Sockets that a supervisor has bound and handed over (`LISTEN_FDS` and `LISTEN_PID`, as systemd
//! does it).
//!
//! Whatever is handed over and is no listening stream socket is an error, not ignored: a
//! connection that waits at it would wait for ever. Which listener each belongs to is not asked
//! here.

use std::io;

use egret_proxy::Inherited;
use listenfd::ListenFd;

/// Takes the sockets; the variables are gone afterwards, so that no child takes them again.
pub(crate) fn sockets() -> io::Result<Vec<Inherited>> {
    let mut handed_over = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed_over.len() {
        // A socket of another kind is left where it is.
        if let Ok(Some(socket)) = handed_over.take_unix_listener(index) {
            sockets.push(Inherited::Unix(socket));
        } else if let Some(socket) = handed_over.take_tcp_listener(index)? {
            sockets.push(Inherited::Tcp(socket));
        }
    }
    Ok(sockets)
}
