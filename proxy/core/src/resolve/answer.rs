//! What a reply means for the name that was asked for.
//!
//! A reply counts only if it repeats the question: the library checks that for datagrams, here it
//! is checked for every transport. A reply that contradicts itself or that cannot be understood is
//! not believed in part. An error code says nothing about the name, so another server may be asked;
//! that a name does not exist is an answer.

use egret_policy::HostName;
use hickory_resolver::{
    net::{DnsError, NetError, NoRecords},
    proto::op::{DnsResponse, Query, ResponseCode},
};

use super::{
    chain::{self, Family, bounded_ttl},
    server::ServerFault,
};

/// Why a reply is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The chain of aliases or the addresses at its end.
    #[error(transparent)]
    Chain(#[from] chain::ChainError),
    /// It is about something else.
    #[error("the reply does not repeat the question")]
    OtherQuestion,
    /// The name does not exist and has addresses.
    #[error("the reply says that the name does not exist, and gives its addresses")]
    Contradiction,
}

/// What came of asking one server.
#[derive(Debug)]
pub(super) enum Verdict {
    /// All that there is to know.
    Known(Family),
    /// The server answers, and its answer is not to be used. Nobody else is asked: one who lies
    /// about a name is not outvoted.
    Unbelievable(AnswerError),
    /// The server has no answer; another one may.
    Unanswered(ServerFault),
}

/// Judges what the library made of a server's reply to `question`.
pub(super) fn judge(
    name: &HostName,
    question: &Query,
    reply: Result<DnsResponse, NetError>,
) -> Verdict {
    match reply {
        Ok(response) => judge_records(name, question, &response),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => judge_none(question, &none),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => {
            Verdict::Unanswered(ServerFault::Code(code))
        }
        Err(NetError::Timeout) => Verdict::Unanswered(ServerFault::Timeout),
        Err(error) => Verdict::Unanswered(ServerFault::from(error)),
    }
}

fn judge_records(name: &HostName, question: &Query, response: &DnsResponse) -> Verdict {
    if !repeats(question, &response.queries) {
        return Verdict::Unbelievable(AnswerError::OtherQuestion);
    }
    let code = response.response_code;
    if !speaks_of_the_name(code) || response.truncation {
        return Verdict::Unanswered(ServerFault::Code(code));
    }
    match chain::walk(name, question.query_type(), &response.answers) {
        Err(error) => Verdict::Unbelievable(error.into()),
        Ok(family) if code == ResponseCode::NXDomain && !family.addresses.is_empty() => {
            Verdict::Unbelievable(AnswerError::Contradiction)
        }
        Ok(family) => {
            // An alias that leads nowhere: the name itself is there, what it stands for is not.
            Verdict::Known(Family { no_such_name: code == ResponseCode::NXDomain, ..family })
        }
    }
}

fn judge_none(question: &Query, none: &NoRecords) -> Verdict {
    if *none.query != *question {
        return Verdict::Unbelievable(AnswerError::OtherQuestion);
    }
    if !speaks_of_the_name(none.response_code) {
        return Verdict::Unanswered(ServerFault::Code(none.response_code));
    }
    Verdict::Known(Family {
        ttl: none.negative_ttl.map(bounded_ttl),
        no_such_name: none.response_code == ResponseCode::NXDomain,
        ..Family::default()
    })
}

/// Names compare without case here: the library has compared with case where that is a defence.
fn repeats(question: &Query, repeated: &[Query]) -> bool {
    matches!(repeated, [one] if one == question)
}

fn speaks_of_the_name(code: ResponseCode) -> bool {
    code == ResponseCode::NoError || code == ResponseCode::NXDomain
}
