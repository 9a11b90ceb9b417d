//! An error as the log tells it: with what caused it.
//!
//! Messages do not repeat their causes, and what a log is given of an error is its message alone:
//! it would say that a directory cannot be used and not that there is no descriptor left.

use std::{
    error::Error,
    fmt::{Display, Formatter, Result},
};

/// Returns what tells an error and each of its causes, the nearest one first.
pub fn caused(error: &(dyn Error + 'static)) -> impl Display {
    Caused(error)
}

struct Caused<'a>(&'a (dyn Error + 'static));

impl Display for Caused<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self(error) = *self;
        write!(f, "{error}")?;
        error.source().map_or(Ok(()), |cause| write!(f, ": {}", Self(cause)))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("use `audit`")]
    struct Use(#[source] io::Error);

    #[test]
    fn each_cause_is_told_once() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(caused(&full()).to_string(), "no storage space");
        assert_eq!(caused(&Use(full())).to_string(), "use `audit`: no storage space");
        // As it comes out of the records.
        let other = io::Error::other(Use(full()));
        assert_eq!(caused(&other).to_string(), "use `audit`: no storage space");
    }
}
