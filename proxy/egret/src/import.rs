//! `egret import`: rules of other proxies, as a policy.
//!
//! What is written allows nothing that the other proxy did not: what has no equivalent, or is not
//! understood, is said in a comment with its line and allows nothing. Where that cannot be kept,
//! because a refusal might be lost, the file is refused. Each rule is loaded before it is written,
//! and so is the whole.

use std::{fmt, path::PathBuf};

use egret_policy::{Loaded, Policy};

use crate::{
    cli,
    diagnostic::print_warning,
    failure::{Exit, Failure, count},
    files::{self, SourceText},
    output, starter,
};

use self::page::Page;

mod page;
mod smokescreen;
mod squid;
mod yaml;

/// Why a file is not taken over at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("`{}` is already there; nothing was written", path.display())]
    Exists { path: PathBuf },
    #[error("{file}:{line}: {problem}")]
    Refused { file: String, line: usize, problem: String },
    /// The problems themselves have been printed.
    #[error("what was made of `{file}` is not a valid policy: {}", count(*problems, "problem"))]
    Invalid { file: String, problems: usize },
}

impl ImportError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Refused { .. } => Exit::Configuration,
            Self::Exists { .. } | Self::Invalid { .. } => Exit::Failure,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("name another file, or move that one away".to_owned()),
            Self::Refused { .. } => Some(
                "change that line, or take it out if the policy does not need what it says"
                    .to_owned(),
            ),
            Self::Invalid { .. } => Some("this is a fault of egret's: please report it".to_owned()),
        }
    }
}

/// Why a text cannot be taken over, and the line where.
struct Refused {
    line: usize,
    problem: String,
}

impl Refused {
    fn new(line: usize, problem: impl fmt::Display) -> Self {
        Self { line, problem: problem.to_string() }
    }
}

pub(crate) fn run(args: &cli::Import) -> Result<Exit, Failure> {
    let SourceText { text, .. } = files::read_within(&args.file, LONGEST)?;
    let file = args.file.display().to_string();
    let mut page = Page::new(&file);
    let translated = match args.from {
        cli::ImportFrom::Smokescreen => smokescreen::translate(&text, &mut page),
        cli::ImportFrom::Squid => squid::translate(&text, &mut page),
    };
    let whole = translated.and_then(|()| match page.full() {
        Some(line) => Err(Refused::new(line, page::TOO_MUCH)),
        None => Ok(()),
    });
    if let Err(Refused { line, problem }) = whole {
        return Err(ImportError::Refused { file, line, problem }.into());
    }
    let (rules, left_out) = (page.rules(), page.left_out());
    let policy = page.written();
    let Loaded { problems, .. } = Policy::load(&policy);
    if !problems.is_empty() {
        return Err(ImportError::Invalid { file, problems: problems.len() }.into());
    }
    match &args.output {
        None => output::bytes(policy.as_bytes())?,
        Some(path) if files::is_there(path) => {
            return Err(ImportError::Exists { path: path.clone() }.into());
        }
        // Somebody who is quicker is not overwritten either.
        Some(path) => starter::write_new(path, &policy)
            .map_err(|source| Failure::Write { path: path.clone(), source })?,
    }
    if left_out > 0 {
        print_warning(
            &format!("{} written; not taken over of `{file}`: {left_out}", count(rules, "rule")),
            Some("each stands in a comment that begins with `not taken over`"),
        );
    }
    Ok(Exit::Done)
}

/// More than any such file has.
const LONGEST: u64 = 8 << 20;

#[cfg(test)]
mod tests;
