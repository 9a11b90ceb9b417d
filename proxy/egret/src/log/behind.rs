//! What is on its way to stderr once egret serves: one thread writes it, so that whoever says
//! something never waits for whoever reads it.
//!
//! What waits is bounded, in pieces and in bytes. What comes while there is no room is dropped, and
//! how many lines that were is said in their place.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Pieces that may wait, each a line of the log or a few for people.
const PIECES: usize = 4096;
/// Bytes that may wait.
const BYTES: usize = 1 << 20;

/// What waits to be written.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// One has been taken and is not written yet.
    writing: bool,
}

/// What is written at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Vec<u8>),
    /// Here so many lines were dropped.
    Dropped(u64),
}

impl Queue {
    /// Takes a text, or drops it where there is no room; waits for nobody.
    pub(super) fn put(&self, text: &[u8]) {
        let mut waiting = self.lock();
        if waiting.pieces.len() < PIECES && waiting.bytes + text.len() <= BYTES {
            waiting.bytes += text.len();
            waiting.pieces.push_back(Piece::Text(text.to_vec()));
        } else {
            let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64;
            if let Some(Piece::Dropped(before)) = waiting.pieces.back_mut() {
                *before += lines;
            } else {
                waiting.pieces.push_back(Piece::Dropped(lines));
            }
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Has each piece written in its turn, for ever.
    pub(super) fn write(&self, mut write: impl FnMut(Piece)) -> ! {
        loop {
            write(self.next());
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Piece {
        let mut waiting = self.lock();
        loop {
            if let Some(piece) = waiting.pieces.pop_front() {
                if let Piece::Text(text) = &piece {
                    waiting.bytes -= text.len();
                }
                waiting.writing = true;
                return piece;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all is written, but no longer than that.
    pub(super) fn settle(&self, limit: Duration) {
        let open = |waiting: &mut Waiting| waiting.writing || !waiting.pieces.is_empty();
        // What is not written by then is gone.
        let _ = self.changed.wait_timeout_while(self.lock(), limit, open);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No piece is ever half taken.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_in_its_place() {
        let check = |text: &[u8], fits: usize| {
            let queue = Queue::default();
            for _ in 0..fits {
                queue.put(text);
            }
            queue.put(text);
            queue.put(&[text, text].concat());
            for _ in 0..fits {
                assert_eq!(queue.next(), Piece::Text(text.to_vec()));
            }
            queue.put(b"after\n");
            assert_eq!(queue.next(), Piece::Dropped(3), "{fits}");
            assert_eq!(queue.next(), Piece::Text(b"after\n".to_vec()));
        };
        check(b"line\n", PIECES);
        check(&[&[b'x'; (BYTES >> 3) - 1][..], b"\n"].concat(), 8);
    }

    #[test]
    fn what_stands_still_is_not_waited_for() {
        let queue = Queue::default();
        queue.settle(Duration::from_secs(60));
        queue.put(b"line\n");
        queue.settle(Duration::from_millis(1));
        queue.next();
        queue.settle(Duration::from_millis(1));
        assert!(queue.lock().writing);
    }
}
