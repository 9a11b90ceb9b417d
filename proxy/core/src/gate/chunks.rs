//! Chunked bodies: decoded by the strict grammar, and encoded anew for hyper.
//!
//! Extensions are checked and dropped, trailers too: nothing that a client writes between the
//! pieces of its data reaches hyper or an origin. Sizes are bounded, lines and the sum of all
//! extensions as well, so that a body cannot be mostly frame.

use super::{
    GateLimits,
    fault::{Fault, Part},
    fields::{FieldLines, Step, is_token},
};

/// Where the decoding of one body stands.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    size: u64,
    digits: usize,
    extension_bytes: usize,
}

#[derive(Debug)]
enum State {
    Size,
    Extension(Extension),
    LineLf,
    Data,
    DataCr,
    DataLf,
    Trailers { lines: FieldLines, at: usize },
}

/// Where a chunk extension stands: `BWS ; BWS name [ BWS = BWS ( token / quoted-string ) ]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    AfterQuoted,
}

/// What hyper is to be given next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The bytes ran out.
    More,
    /// The line of a chunk of this size, its data to follow.
    Size(u64),
    /// This many bytes of data, at least one; `take` says how many were there.
    Data(u64),
    /// The end of a chunk.
    DataEnd,
    /// The end of the body.
    End,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { state: State::Size, size: 0, digits: 0, extension_bytes: 0 }
    }

    /// Reads from `inbox`; the count is what has been read for good and is to be dropped.
    pub(super) fn next(
        &mut self,
        inbox: &[u8],
        limits: &GateLimits,
    ) -> Result<(usize, Piece), Fault> {
        let mut read = 0;
        loop {
            if let State::Data = self.state {
                return Ok((read, Piece::Data(self.size)));
            }
            if let State::Trailers { lines, at } = &mut self.state {
                let inbox = &inbox[read..inbox.len().min(read + TRAILER_BYTES)];
                return match lines.scan(inbox, at)? {
                    Step::End => Ok((read + *at, Piece::End)),
                    Step::Field { .. } => continue,
                    Step::More if *at == TRAILER_BYTES => {
                        Err(Fault::TooLarge { what: Part::Trailers })
                    }
                    Step::More => Ok((read, Piece::More)),
                };
            }
            let Some(&byte) = inbox.get(read) else { return Ok((read, Piece::More)) };
            read += 1;
            match &mut self.state {
                State::Size => self.size(byte)?,
                State::Extension(extension) => {
                    self.extension_bytes += 1;
                    if self.extension_bytes > EXTENSION_BYTES {
                        return Err(Fault::ChunkExtension);
                    }
                    match extension.next(byte) {
                        Some(next) => *extension = next,
                        None if byte == b'\r' && extension.may_end() => self.state = State::LineLf,
                        None => return Err(Fault::ChunkExtension),
                    }
                }
                State::LineLf if byte != b'\n' => return Err(Fault::LineEnd),
                State::LineLf if self.size == 0 => {
                    self.state = State::Trailers { lines: FieldLines::new(limits.fields), at: 0 };
                }
                State::LineLf => {
                    self.state = State::Data;
                    return Ok((read, Piece::Size(self.size)));
                }
                State::DataCr if byte == b'\r' => self.state = State::DataLf,
                State::DataLf if byte == b'\n' => {
                    self.state = State::Size;
                    self.digits = 0;
                    return Ok((read, Piece::DataEnd));
                }
                State::DataCr | State::DataLf => return Err(Fault::ChunkEnd),
                State::Data | State::Trailers { .. } => {}
            }
        }
    }

    /// Takes note that so many bytes of data have been handed on.
    pub(super) fn take(&mut self, bytes: u64) {
        self.size -= bytes;
        if self.size == 0 {
            self.state = State::DataCr;
        }
    }

    fn size(&mut self, byte: u8) -> Result<(), Fault> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err(Fault::ChunkSize),
            b'\r' => {
                self.state = State::LineLf;
                return Ok(());
            }
            b' ' | b'\t' => {
                self.state = State::Extension(Extension::BeforeSemicolon);
                return Ok(());
            }
            b';' => {
                self.state = State::Extension(Extension::BeforeName);
                return Ok(());
            }
            _ => return Err(Fault::ChunkSize),
        };
        self.size = if self.digits == 0 { 0 } else { self.size << 4 } | u64::from(digit);
        self.digits += 1;
        // Sixteen digits fit, so the shift has lost nothing when this is asked.
        if self.digits > SIZE_DIGITS || self.size > SIZE_MAX {
            return Err(Fault::ChunkSize);
        }
        Ok(())
    }
}

impl Extension {
    /// Returns where the byte leads; CR leads nowhere and is judged by the caller.
    fn next(self, byte: u8) -> Option<Self> {
        let blank = matches!(byte, b' ' | b'\t');
        match self {
            Self::BeforeSemicolon if byte == b';' => Some(Self::BeforeName),
            Self::BeforeName | Self::Name if is_token(byte) => Some(Self::Name),
            Self::Name | Self::AfterName if byte == b'=' => Some(Self::BeforeValue),
            Self::Name | Self::AfterName if blank => Some(Self::AfterName),
            Self::BeforeValue | Self::Token if is_token(byte) => Some(Self::Token),
            Self::BeforeValue if byte == b'"' => Some(Self::Quoted),
            Self::Quoted if byte == b'"' => Some(Self::AfterQuoted),
            Self::Quoted if byte == b'\\' => Some(Self::Escaped),
            Self::Quoted | Self::Escaped => {
                matches!(byte, b'\t' | b' '..=b'~' | 0x80..).then_some(Self::Quoted)
            }
            Self::Name | Self::AfterName | Self::Token | Self::AfterQuoted if byte == b';' => {
                Some(Self::BeforeName)
            }
            Self::Token | Self::AfterQuoted if blank => Some(Self::BeforeSemicolon),
            Self::BeforeSemicolon | Self::BeforeName | Self::BeforeValue if blank => Some(self),
            Self::BeforeSemicolon
            | Self::BeforeName
            | Self::Name
            | Self::AfterName
            | Self::BeforeValue
            | Self::Token
            | Self::AfterQuoted => None,
        }
    }

    /// Returns whether the line may end here: white space belongs to a semicolon or a value that
    /// follows it, so it cannot be the last thing.
    fn may_end(self) -> bool {
        match self {
            Self::Name | Self::Token | Self::AfterQuoted => true,
            Self::BeforeSemicolon
            | Self::BeforeName
            | Self::AfterName
            | Self::BeforeValue
            | Self::Quoted
            | Self::Escaped => false,
        }
    }
}

const SIZE_DIGITS: usize = 16;

/// Far above any chunk, and far below what wraps when somebody adds two to it.
const SIZE_MAX: u64 = 1 << 62;

/// Of all extensions of a body together.
const EXTENSION_BYTES: usize = 16 << 10;

const TRAILER_BYTES: usize = 16 << 10;
