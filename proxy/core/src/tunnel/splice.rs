//! Moves bytes from one socket to another without bringing them into the process.
//!
//! A pipe stands between the two. It comes from a bounded pool, is empty when it is taken and when
//! it is given back, and is closed when it is not: bytes of one tunnel can never surface in
//! another. Where there is no pipe to be had, or no such system call, there is none here and the
//! caller copies.

#[cfg(target_os = "linux")]
pub(super) use self::linux::Pipe;
#[cfg(not(target_os = "linux"))]
pub(super) use self::other::Pipe;

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        io,
        os::fd::OwnedFd,
        sync::{
            OnceLock,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use crossbeam_queue::ArrayQueue;
    use rustix::{
        io::Errno,
        pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
        process::{Resource, getrlimit},
    };
    use tokio::{io::Interest, task::coop::consume_budget};

    use crate::{
        socket::Socket,
        tunnel::{Fault, Moved, copy_all},
    };

    /// Pipes in all, at most. Each has two descriptors, which tunnels need as well.
    const MOST: usize = 128;
    /// Descriptors that the process may have for each pipe: where they are few, what egret has to
    /// read itself, a new policy above all, must not find them used up by traffic.
    const FOR_A_PIPE: u64 = 16;
    /// What a pipe is asked to hold: so much that a system call moves a lot, and so little that all
    /// pipes together stay within what the system gives one user (`pipe-user-pages-soft`, 64 MiB).
    const HOLDS: usize = 512 << 10;

    static WAITING: OnceLock<ArrayQueue<Ends>> = OnceLock::new();
    static MADE: AtomicUsize = AtomicUsize::new(0);

    struct Ends {
        read: OwnedFd,
        write: OwnedFd,
    }

    /// A pipe on loan from the pool.
    pub(in crate::tunnel) struct Pipe {
        ends: Option<Ends>,
        /// Bytes in it.
        holds: usize,
    }

    impl Pipe {
        /// Takes a pipe; `None` when all are in use or none can be made.
        pub(in crate::tunnel) fn take() -> Option<Self> {
            let ends = waiting().pop().or_else(make)?;
            Some(Self { ends: Some(ends), holds: 0 })
        }

        /// Moves what there is to be read, as far as `pass` lets it.
        pub(in crate::tunnel) async fn move_all(
            mut self,
            from: &Socket,
            to: &Socket,
            pass: impl Fn(usize) -> usize,
        ) -> Result<Moved, Fault> {
            loop {
                let moved = match self.fill(from) {
                    Ok(0) => return Ok(Moved::End),
                    Ok(moved) => moved,
                    // The pipe is empty here, so it is the socket that has nothing.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Moved::All);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                        return copy_all(from, to, &pass).await;
                    }
                    Err(_) => return Err(Fault::Reading),
                };
                from.unless_cut().await;
                let mut passed = pass(moved);
                while passed > 0 {
                    match self.empty(to, passed) {
                        Ok(moved) => passed -= moved,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            to.writable().await.map_err(|_| Fault::Writing)?;
                        }
                        Err(_) => return Err(Fault::Writing),
                    }
                }
                if self.holds > 0 {
                    return Err(Fault::Spent);
                }
                consume_budget().await;
            }
        }

        fn fill(&mut self, from: &Socket) -> io::Result<usize> {
            let Some(ends) = &self.ends else { return Ok(0) };
            let moved = from.try_io(Interest::READABLE, || {
                match splice(from, None, &ends.write, None, HOLDS, FLAGS) {
                    // Splicing never gets past an urgent byte (RFC 9293, section 3.8.5); it looks
                    // as if there were nothing, or the end.
                    Ok(0) | Err(Errno::AGAIN) if from.has_bytes() => {
                        Err(io::ErrorKind::Unsupported.into())
                    }
                    moved => Ok(moved?),
                }
            })?;
            self.holds += moved;
            Ok(moved)
        }

        fn empty(&mut self, to: &Socket, most: usize) -> io::Result<usize> {
            let Some(ends) = &self.ends else { return Err(io::ErrorKind::BrokenPipe.into()) };
            let moved = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&ends.read, None, to, None, most, FLAGS)?)
            })?;
            if moved == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.holds -= moved;
            Ok(moved)
        }
    }

    impl Drop for Pipe {
        fn drop(&mut self) {
            let Some(ends) = self.ends.take() else { return };
            // What a tunnel that was cut has left in it is closed with it.
            if self.holds > 0 || waiting().push(ends).is_err() {
                MADE.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn waiting() -> &'static ArrayQueue<Ends> {
        WAITING.get_or_init(|| ArrayQueue::new(most()))
    }

    fn most() -> usize {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        usize::try_from(files / FOR_A_PIPE).unwrap_or(MOST).clamp(1, MOST)
    }

    fn make() -> Option<Ends> {
        let room = |made| (made < waiting().capacity()).then_some(made + 1);
        MADE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        match pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC) {
            Ok((read, write)) => {
                // A smaller pipe serves as well.
                let _ = fcntl_setpipe_size(&write, HOLDS);
                Some(Ends { read, write })
            }
            Err(error) => {
                MADE.fetch_sub(1, Ordering::Relaxed);
                tracing::debug!(%error, "no pipe to splice with; copying");
                None
            }
        }
    }

    const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
}

#[cfg(not(target_os = "linux"))]
mod other {
    use crate::{
        socket::Socket,
        tunnel::{Fault, Moved},
    };

    /// There are none.
    pub(in crate::tunnel) enum Pipe {}

    impl Pipe {
        pub(in crate::tunnel) fn take() -> Option<Self> {
            None
        }

        pub(in crate::tunnel) async fn move_all(
            self,
            _: &Socket,
            _: &Socket,
            _: impl Fn(usize) -> usize,
        ) -> Result<Moved, Fault> {
            match self {}
        }
    }
}
