//! How egret ends: the exit codes, and why a verb could not do its work.
//!
//! The codes are public interface. A failure names the thing and, where there is one, the fix;
//! the cause stays in the source chain and is printed below it.

use std::{
    error::Error, fmt::Display, io, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc,
};

use egret_policy::{TargetError, TestOutcome};
use egret_proxy::{FlushError, ListenAddress, ListenError, OpenError, RecordError};
use rustix::io::Errno;

use crate::{
    audit::{KeyError, VerifyError},
    budgets::BudgetError,
    clock::ClockDoubt,
    diagnostic,
    env::shell::ShellError,
    exec::ExecError,
    files::{self, FileError},
    import::ImportError,
    proxy_url::ProxyUrlError,
    records::RecordsError,
    running::RunningError,
    state::StateError,
    token::TokenError,
};

/// An exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failure,
    Usage,
    /// The answer is no: denied, a test that failed, no proxy that runs.
    Negative,
    /// A port is taken, or another process owns the state directory.
    Unavailable,
    Permission,
    Configuration,
    /// What the command of `exec` ended with.
    Of(u8),
}

impl Exit {
    /// What clap's refusal of a command line is; asking for help is none.
    pub(crate) fn of_usage(error: &clap::Error) -> Self {
        if error.exit_code() == 0 { Self::Done } else { Self::Usage }
    }

    /// What an error of the system is: no permission, or what it is otherwise.
    pub(crate) fn of_io(error: &io::Error, otherwise: Self) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied { Self::Permission } else { otherwise }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0_u8,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Negative => 3,
            Exit::Unavailable => 69,
            Exit::Permission => 77,
            Exit::Configuration => 78,
            Exit::Of(code) => code,
        })
    }
}

/// Why a verb could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The problems themselves have been printed.
    #[error("{file} is not valid: {}", count(*problems, "problem"))]
    Invalid { file: String, problems: usize },
    #[error("{file} fails its own tests: {}", told(failed))]
    PolicyTests { file: String, failed: Vec<TestOutcome> },
    #[error("CONNECT takes a host and a port, and `{text}` is none")]
    Authority {
        text: String,
        #[source]
        source: TargetError,
    },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Budgets(#[from] BudgetError),
    #[error(transparent)]
    Clock(#[from] ClockDoubt),
    #[error("find a place for {what}: neither {variable} nor HOME is set to an absolute path")]
    NoHome { what: &'static str, variable: &'static str },
    #[error("{} already there; nothing was written", list(existing))]
    Exists { existing: Vec<PathBuf> },
    #[error("write `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("listen on {address} for `[metrics]`")]
    Metrics {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("take over the sockets that were handed over")]
    Inherit(#[source] io::Error),
    #[error("EGRET_LOG is not a filter")]
    LogFilter(#[source] tracing_subscriber::filter::ParseError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    RecordKey(#[from] KeyError),
    #[error("open the record")]
    Record(#[source] OpenError),
    #[error("end the record")]
    RecordEnd(#[source] FlushError),
    #[error("record in `{}` that egret starts", directory.display())]
    Recording {
        directory: PathBuf,
        #[source]
        source: RecordError,
    },
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("no record has the id {id}")]
    UnknownId { id: String },
    #[error("the given policy cannot be put in force as it is: {why}")]
    Suggestion { why: String },
    #[error("`{}` is not the id of a record", egret_policy::source::shown(text))]
    NotAnId { text: String },
    #[error("find name servers to ask")]
    Resolver(#[source] egret_proxy::ResolverError),
    #[error(transparent)]
    Running(#[from] RunningError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    ProxyUrl(#[from] ProxyUrlError),
    #[error(transparent)]
    Shell(#[from] ShellError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("ask the system for random bytes")]
    Random(#[source] io::Error),
    #[error("start the proxy")]
    Start(#[source] Box<dyn Error + Send + Sync>),
    #[error("the proxy cannot go on, and has ended")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    #[error("the disk has not taken the last records in time; those are missing")]
    Unflushed,
    #[error("save the day budgets at the end")]
    Unsaved(#[source] io::Error),
    #[error("print the answer")]
    Output(#[source] io::Error),
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Invalid { .. }
            | Self::PolicyTests { .. }
            | Self::NoHome { .. }
            | Self::LogFilter(_)
            | Self::Resolver(_)
            | Self::Inherit(_)
            | Self::Listen(ListenError::Unasked { .. } | ListenError::Folder { .. }) => {
                Exit::Configuration
            }
            Self::Authority { .. } | Self::NotAnId { .. } => Exit::Usage,
            Self::UnknownId { .. } | Self::Suggestion { .. } => Exit::Failure,
            Self::Write { source, .. } => Exit::of_io(source, Exit::Failure),
            Self::Listen(ListenError::Address { source, .. }) | Self::Metrics { source, .. } => {
                Exit::of_io(source, Exit::Unavailable)
            }
            Self::File(error) => error.exit(),
            Self::State(error) => error.exit(),
            Self::Budgets(error) => error.exit(),
            Self::Verify(error) => error.exit(),
            Self::RecordKey(error) => error.exit(),
            Self::Record(error) => record_exit(error),
            Self::Records(error) => error.exit(),
            Self::Running(error) => error.exit(),
            Self::Token(error) => error.exit(),
            Self::ProxyUrl(error) => error.exit(),
            Self::Shell(error) => error.exit(),
            Self::Exec(error) => error.exit(),
            Self::Import(error) => error.exit(),
            Self::Exists { .. }
            | Self::Clock(_)
            | Self::RecordEnd(_)
            | Self::Start(_)
            | Self::Broken(_)
            | Self::Unflushed
            | Self::Unsaved(_)
            | Self::Output(_)
            | Self::Random(_) => Exit::Failure,
            Self::Recording { source, .. } => match source {
                RecordError::Write(source) => Exit::of_io(source, Exit::Failure),
                RecordError::Failing | RecordError::Unavailable => Exit::Failure,
            },
        }
    }

    /// How many things are to be mended.
    pub(crate) fn problems(&self) -> usize {
        if let Self::Invalid { problems, .. } = self {
            *problems
        } else if let Self::PolicyTests { failed, .. } = self {
            failed.len()
        } else {
            1
        }
    }

    fn fix(&self) -> Option<String> {
        if self.is_for_want_of_room() {
            return Some("make room on that disk, or name a directory on another one".to_owned());
        }
        match self {
            Self::NoHome { variable, .. } => Some(format!("set {variable}, or use `-c FILE`")),
            Self::Authority { .. } => Some("write `example.com:443`".to_owned()),
            Self::UnknownId { .. } => Some(
                "`egret tail` lists ids; name the records of another proxy with `--audit PATH`; \
                 what `[audit] keep` no longer keeps is gone"
                    .to_owned(),
            ),
            Self::Suggestion { .. } => {
                Some("`egret check FILE` says all that is wrong with it".to_owned())
            }
            Self::NotAnId { .. } => Some(
                "write the 26 letters and digits after the code, as in \
                 `403 egress.host_not_allowed 01M7Z41WTFKF6DHDXCQHH7BESS`"
                    .to_owned(),
            ),
            Self::Records(error) => error.fix(),
            Self::File(error) => error.fix(),
            Self::State(error) => error.fix(),
            Self::Budgets(error) => error.fix(),
            Self::Clock(doubt) => Some(doubt.fix()),
            Self::Running(error) => error.fix(),
            Self::Token(error) => error.fix(),
            Self::ProxyUrl(error) => Some(error.fix()),
            Self::Shell(error) => Some(error.fix()),
            Self::Exec(error) => error.fix(),
            Self::Import(error) => error.fix(),
            Self::Exists { .. } => Some("name another directory: `egret init DIR`".to_owned()),
            Self::Resolver(_) => Some("name them: `[dns] servers = [\"127.0.0.1:53\"]`".to_owned()),
            Self::Listen(ListenError::Address { address, source }) => {
                Some(listen_fix("[[listener]]", address, source.kind()))
            }
            Self::Metrics { address, source } => {
                Some(listen_fix("[metrics]", &ListenAddress::Tcp(*address), source.kind()))
            }
            Self::Listen(ListenError::Folder { folder, .. }) => Some(format!(
                "let egret's user or root own it and run `chmod go-w {}`, or name another directory",
                folder.display()
            )),
            Self::Listen(ListenError::Unasked { socket }) => Some(format!(
                "add `[[listener]]` with `address = \"{socket}\"`, or do not hand that socket over"
            )),
            Self::Inherit(_) => {
                Some("hand over listening stream sockets only: TCP, or Unix with a path".to_owned())
            }
            Self::PolicyTests { .. } => {
                Some("mend the rules or the tests; `egret check FILE` runs them".to_owned())
            }
            Self::LogFilter(_) => Some("write `info`, `debug` or `egret_proxy=trace`".to_owned()),
            Self::Verify(error) => error.fix(),
            Self::RecordKey(error) => error.fix(),
            Self::Record(error) => Some(record_fix(error)),
            Self::RecordEnd(FlushError::Missing { .. }) => Some(
                "see that there is room where the records are; the next start takes down how many \
                 are missing"
                    .to_owned(),
            ),
            Self::Recording { .. } => Some(
                "see to that disk, or name a directory on another one with `[audit] path`"
                    .to_owned(),
            ),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run as the owner of that directory, or name another one".to_owned())
            }
            Self::Broken(_) => Some(
                "start it again, as a service manager does by itself; what was said before tells \
                 more"
                    .to_owned(),
            ),
            Self::Unflushed => {
                Some("find out why the disk under `[audit] path` stands still".to_owned())
            }
            Self::Unsaved(_) => Some(
                "find out why the disk under `state_dir` does not take them; what was used since \
                 they were saved last counts as not used"
                    .to_owned(),
            ),
            Self::Invalid { .. }
            | Self::Write { .. }
            | Self::RecordEnd(_)
            | Self::Start(_)
            | Self::Output(_)
            | Self::Random(_) => None,
        }
    }

    /// Whether any cause of it is a disk that is full.
    fn is_for_want_of_room(&self) -> bool {
        self.is_caused_by(|error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        })
    }

    /// Whether any cause of it is that descriptors or memory are used up, which may pass.
    pub(crate) fn is_for_want_of_descriptors(&self) -> bool {
        let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        self.is_caused_by(|error| Errno::from_io_error(error).is_some_and(|no| wants.contains(&no)))
    }

    fn is_caused_by(&self, is: impl Fn(&io::Error) -> bool) -> bool {
        let mut next = self.source();
        while let Some(cause) = next {
            let shared = || cause.downcast_ref::<Arc<io::Error>>().map(|error| &**error);
            if cause.downcast_ref::<io::Error>().or_else(shared).is_some_and(&is) {
                return true;
            }
            next = cause.source();
        }
        false
    }

    /// Prints the failure, what caused it, and the fix.
    pub(crate) fn print(&self) {
        let mut causes = Vec::new();
        let mut next = self.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        diagnostic::print_failure(&self.to_string(), &causes, self.fix().as_deref());
    }
}

/// The tests that failed, as `check` tells them.
fn told(failed: &[TestOutcome]) -> String {
    let tests: Vec<_> = failed.iter().map(ToString::to_string).collect();
    tests.join("; ")
}

fn record_exit(error: &OpenError) -> Exit {
    match error {
        OpenError::Use { source, .. } => Exit::of_io(source, Exit::Failure),
        OpenError::InUse { .. } => Exit::Unavailable,
        OpenError::WritableByOthers { .. } | OpenError::OwnedByOther { .. } => Exit::Configuration,
        OpenError::NoFile { .. }
        | OpenError::Broken { .. }
        | OpenError::Cut { .. }
        | OpenError::OtherKey { .. } => Exit::Failure,
    }
}

fn record_fix(error: &OpenError) -> String {
    const ANEW: &str = "move the whole directory away, keep it, and a new record begins";
    match error {
        OpenError::Use { source, .. } => {
            const CLOSED: [io::ErrorKind; 2] =
                [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
            let mended = if CLOSED.contains(&source.kind()) {
                "make the directory writable"
            } else {
                "put a directory or file of egret's own there"
            };
            format!("{mended}, or name another `[audit] path`")
        }
        OpenError::WritableByOthers { path, .. } => format!(
            "run `chmod go-w {}`; if somebody may have written there, {ANEW}",
            path.display()
        ),
        OpenError::OwnedByOther { path, .. } => format!(
            "find out who put it there; run `chown {} {}`, or name another `[audit] path`",
            files::own_user(),
            path.display()
        ),
        OpenError::NoFile { path } => format!("move `{}` away", path.display()),
        OpenError::Broken { path, .. } => format!(
            "find out who changed it (`egret audit verify {}` says where); then {ANEW}",
            files::folder(path).display()
        ),
        OpenError::InUse { .. } => {
            "stop that process, or give this one another `[audit] path`".to_owned()
        }
        OpenError::Cut { .. } => format!("put back what was removed; or {ANEW}"),
        OpenError::OtherKey { .. } => {
            format!("put `audit.key` back into the state directory; or {ANEW}")
        }
    }
}

fn listen_fix(section: &str, address: &ListenAddress, kind: io::ErrorKind) -> String {
    match (address, kind) {
        (ListenAddress::Tcp(tcp), io::ErrorKind::AddrInUse) => format!(
            "another process listens there: stop it, or give `{section} address` another port \
             than {}",
            tcp.port()
        ),
        (ListenAddress::Tcp(_), io::ErrorKind::PermissionDenied) => {
            "ports below 1024 need the right to bind them: take a higher one".to_owned()
        }
        (ListenAddress::Tcp(_), _) => {
            format!("give `{section} address` an address of this machine")
        }
        (ListenAddress::Unix(_), io::ErrorKind::AddrInUse) => {
            format!(
                "another process listens there: stop it, or give `{section} address` another path"
            )
        }
        (ListenAddress::Unix(path), io::ErrorKind::AlreadyExists) => {
            format!("move `{}` away, or give `{section} address` another path", path.display())
        }
        (ListenAddress::Unix(path), _) => {
            let folder = files::folder(path);
            format!("make `{}`, a directory in which egret's user may write", folder.display())
        }
    }
}

/// `1 problem`, `2 problems`.
pub(crate) fn count<N: Copy + Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    format!("{} {}", names.join(" and "), if names.len() == 1 { "is" } else { "are" })
}
