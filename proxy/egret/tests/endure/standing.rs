//! Tunnels that stand, to an origin that echoes, and say something now and then.

use std::{net::SocketAddr, time::Duration};

use egret_testkit::{
    crowd::{Crowd, Member},
    hello::HelloShape,
};

use crate::{load::connect, scene::PATIENCE};

/// Some tunnels in step.
pub(crate) struct Standing {
    pub(crate) crowd: Crowd,
    /// How many bytes open one, and how many have come back when it is open.
    opening: (usize, usize),
    beats: usize,
}

impl Standing {
    /// Opens tunnels to a host, up to the hello that comes back; each can say so many things more.
    pub(crate) fn open(proxy: SocketAddr, host: &str, count: usize, beats: usize) -> Self {
        let (connect, hello) = (connect(host), HelloShape::named(host).write());
        let script = [&connect[..], &hello, &BEAT.repeat(beats)].concat();
        let mut crowd = Crowd::open(proxy, count, script, connect.len()).unwrap();
        let granted = |all: &[Member]| all.iter().all(|one| one.heard.ends_with(b"\r\n\r\n"));
        assert!(crowd.wait_until(PATIENCE, granted), "{} granted", crowd.answered(200));
        let back = crowd.members()[0].received + hello.len();
        let mut standing = Self { crowd, opening: (connect.len() + hello.len(), back), beats: 0 };
        standing.crowd.advance(standing.opening.0);
        standing.assert_whole(PATIENCE);
        standing
    }

    /// Says one thing more in each.
    pub(crate) fn beat(&mut self) {
        self.beats += 1;
        self.crowd.advance(self.opening.0 + self.beats * BEAT.len());
        self.crowd.sweep();
    }

    /// All that was said has come back within a time, and every tunnel stands.
    pub(crate) fn assert_whole(&mut self, within: Duration) {
        let back = self.opening.1 + self.beats * BEAT.len();
        let whole = self.crowd.wait_until(within, |all| all.iter().all(|one| one.received == back));
        let (stand, all) = (self.crowd.open_count(), self.crowd.members().len());
        assert!(whole && stand == all, "after {} beats {stand} of {all} stand", self.beats);
    }

    /// All have been ended within a time, each with a reset: in good order it would look whole.
    pub(crate) fn assert_reset(&mut self, within: Duration) {
        let ended = self.crowd.wait_for_the_end(within);
        assert!(ended, "{} still stand", self.crowd.open_count());
        let reset = self.crowd.members().iter().filter(|one| one.ended.unwrap().reset).count();
        assert_eq!(reset, self.crowd.members().len(), "some were ended in good order");
    }
}

/// What is said at a time.
const BEAT: &[u8] = b"still here, thanks";
