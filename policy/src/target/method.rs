//! Request methods: tokens, compared with case, three of them refused always.

use std::fmt;

use super::{Malformed, TargetError};

/// A method that may be asked for; borrowed, since a decision does not outlive its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method<'a>(&'a str);

impl<'a> Method<'a> {
    /// Reads a method. TRACE, TRACK and DEBUG are refused in any case, because some origins
    /// compare without it and all three can hand an injected credential back.
    pub fn parse(text: &'a str) -> Result<Self, TargetError> {
        if !(1..=32).contains(&text.len()) || !text.bytes().all(is_token) {
            return Err(Malformed::Method.into());
        }
        if ["TRACE", "TRACK", "DEBUG"].iter().any(|echo| text.eq_ignore_ascii_case(echo)) {
            return Err(TargetError::MethodRefused);
        }
        Ok(Self(text))
    }

    /// Returns the method as it was sent.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

impl fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
