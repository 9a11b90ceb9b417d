//! What the process uses, looked at once a second.

use std::fmt;

use egret_testkit::proxy::Proxy;

/// The looks until now.
#[derive(Default)]
pub(super) struct Gauge {
    looks: Vec<Look>,
}

#[derive(Clone, Copy)]
struct Look {
    resident: u64,
    descriptors: usize,
}

impl Gauge {
    pub(super) fn look(&mut self, proxy: &Proxy) {
        let usage = proxy.usage();
        let look = Look { resident: usage.resident, descriptors: usage.descriptors };
        self.looks.push(look);
    }

    /// Returns by how many bytes the process has grown over the second half, as the line has it
    /// that fits all samples best: a single one may fall into a busy moment.
    pub(super) fn growth(&self) -> f64 {
        let half = &self.looks[self.looks.len() / 2..];
        let count = half.len() as f64;
        let middle = (count - 1.0) / 2.0;
        let mean = half.iter().map(|look| look.resident as f64).sum::<f64>() / count;
        let (mut together, mut spread) = (0.0, 0.0);
        for (at, look) in half.iter().enumerate() {
            let off = at as f64 - middle;
            together += off * (look.resident as f64 - mean);
            spread += off * off;
        }
        if spread == 0.0 { 0.0 } else { together / spread * (count - 1.0) }
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, middle, last] =
            [0, self.looks.len() / 2, self.looks.len() - 1].map(|at| self.looks[at]);
        write!(
            f,
            "resident KiB {} -> {} -> {}",
            first.resident >> 10,
            middle.resident >> 10,
            last.resident >> 10
        )?;
        write!(f, ", {:.0} KiB more over the second half", self.growth() / 1024.0)?;
        write!(
            f,
            ", descriptors {} -> {} -> {}",
            first.descriptors, middle.descriptors, last.descriptors
        )
    }
}
