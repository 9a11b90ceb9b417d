//! What can be wrong with the bytes of a request: one closed enum of facts.
//!
//! A fault says which rule was broken, never with which bytes: nothing of what the client sent
//! reaches a log, a record or an answer through it.

use thiserror::Error;

/// Why a head or a body was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub(crate) enum Fault {
    /// The method is not a token of 1 to 32 bytes.
    #[error("method is not a token of at most 32 bytes")]
    Method,
    /// A byte in the target that is not visible ASCII, or no target at all.
    #[error("target is not visible ASCII")]
    TargetByte,
    /// The target is in none of the four forms.
    #[error("target is not a URI")]
    Target,
    /// Something else than `HTTP/1.0` or `HTTP/1.1` at the end of the request line.
    #[error("version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// CR without LF, or LF without CR.
    #[error("line does not end in CRLF")]
    LineEnd,
    /// White space where a field name must start: a folded line or a hidden field.
    #[error("field line starts with white space")]
    Fold,
    /// A field name that is not a token directly followed by a colon.
    #[error("field name is not a token")]
    FieldName,
    /// A control byte in a field value.
    #[error("field value holds a control byte")]
    FieldValue,
    /// HTTP/1.1 without Host.
    #[error("host is missing")]
    HostMissing,
    /// More than one Host.
    #[error("host is repeated")]
    HostRepeated,
    /// Host holds something else than visible ASCII.
    #[error("host is not visible ASCII")]
    Host,
    /// Content-Length is not 1 to 19 digits.
    #[error("content-length is not a number")]
    ContentLength,
    /// More than one Content-Length.
    #[error("content-length is repeated")]
    ContentLengthRepeated,
    /// Transfer-Encoding is not exactly `chunked`.
    #[error("transfer-encoding is not chunked")]
    TransferEncoding,
    /// More than one Transfer-Encoding.
    #[error("transfer-encoding is repeated")]
    TransferEncodingRepeated,
    /// Transfer-Encoding in HTTP/1.0, which does not know it.
    #[error("transfer-encoding in HTTP/1.0")]
    TransferEncodingVersion,
    /// Content-Length and Transfer-Encoding in one head.
    #[error("content-length beside transfer-encoding")]
    BothLengths,
    /// CONNECT that announces a body.
    #[error("connect with a body")]
    ConnectBody,
    /// Expect is not exactly one `100-continue` in HTTP/1.1.
    #[error("unknown expectation")]
    Expect,
    /// Connection is not a list of tokens.
    #[error("connection is not a list of tokens")]
    Connection,
    /// Connection names a field that frames or routes the message.
    #[error("connection names a framing field")]
    FramingNominated,
    /// A chunk size that is not 1 to 16 hexadecimal digits below the bound.
    #[error("chunk size is malformed")]
    ChunkSize,
    /// A chunk extension outside the grammar, or too many of them.
    #[error("chunk extension is malformed")]
    ChunkExtension,
    /// The data of a chunk is not followed by CRLF.
    #[error("chunk data does not end in CRLF")]
    ChunkEnd,
    /// The client ended its stream inside a body.
    #[error("body is cut short")]
    BodyCutShort,
    /// The service asks for a fact although the gate has released no head.
    #[error("head without a fact")]
    Unannounced,
    /// A bound was passed.
    #[error("{what} too large")]
    TooLarge {
        /// What was too large.
        what: Part,
    },
    /// The head was not complete in time.
    #[error("head was not complete in time")]
    Timeout,
}

/// The part of a request that passed its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub(crate) enum Part {
    /// The whole head.
    #[error("head")]
    Head,
    /// The request target.
    #[error("target")]
    Target,
    /// The number of fields.
    #[error("number of fields")]
    Fields,
    /// The name of one field.
    #[error("field name")]
    FieldName,
    /// The number of connection options.
    #[error("number of connection options")]
    ConnectionOptions,
    /// The trailer section of a chunked body.
    #[error("trailer section")]
    Trailers,
}

/// The four answers that a fault can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FaultKind {
    /// 400, `request_malformed`.
    Malformed,
    /// 400, `target_malformed`.
    TargetMalformed,
    /// 431, `head_too_large`.
    TooLarge,
    /// 408, `request_timeout`.
    Timeout,
}

impl Fault {
    /// Returns how the fault is answered.
    pub(crate) fn kind(self) -> FaultKind {
        match self {
            Self::TargetByte | Self::Target => FaultKind::TargetMalformed,
            Self::TooLarge { what: _ } => FaultKind::TooLarge,
            Self::Timeout => FaultKind::Timeout,
            Self::Method
            | Self::Version
            | Self::LineEnd
            | Self::Fold
            | Self::FieldName
            | Self::FieldValue
            | Self::HostMissing
            | Self::HostRepeated
            | Self::Host
            | Self::ContentLength
            | Self::ContentLengthRepeated
            | Self::TransferEncoding
            | Self::TransferEncodingRepeated
            | Self::TransferEncodingVersion
            | Self::BothLengths
            | Self::ConnectBody
            | Self::Expect
            | Self::Connection
            | Self::FramingNominated
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkEnd
            | Self::BodyCutShort
            | Self::Unannounced => FaultKind::Malformed,
        }
    }
}
