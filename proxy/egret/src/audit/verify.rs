//! `egret audit verify`: holds a record against itself, and against a head kept elsewhere.
//!
//! What is wrong is told with its file and line, for people or as JSON. A directory is judged as
//! a whole and held against the head beside its segments, too: that finds what was cut by
//! accident, and whoever cuts on purpose has to reach a copy elsewhere. A record that is being
//! written can be judged: a line that is on its way is waited for.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use egret_policy::source::shown_within;
use egret_proxy::{
    Extent, Fault, KeptHead, NEWEST_HEAD, Verified, Verifier, segment_name, segments,
};
use serde::Serialize;

use crate::{
    cli, config,
    environment::Environment,
    failure::{Exit, Failure, count},
    files, output,
    progress::Progress,
    style::{ALLOWED as GOOD, DENIED as BAD},
};

/// Why a record could not be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is a directory among other paths", path.display())]
    Directory { path: PathBuf },
}

impl VerifyError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Read { source, .. } => Exit::of_io(source, Exit::Failure),
            Self::Directory { .. } => Exit::Usage,
        }
    }

    pub(crate) fn fix(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(files::AS_A_READER.to_owned())
            }
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Some(
                "name the directory or the files of the records, and with `--head` a kept head"
                    .to_owned(),
            ),
            Self::Read { .. } => None,
            Self::Directory { .. } => {
                Some("name the directory alone, or the files in it".to_owned())
            }
        }
    }
}

/// What `--json` prints; the names are public interface.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    segments: usize,
    lines: u64,
    heads: u64,
    /// `seq` of the first line.
    first: Option<u64>,
    /// Whether what was before it was removed by age.
    #[serde(skip)]
    removed: bool,
    last: Option<Last>,
    /// The public key of the heads.
    key: Option<String>,
    /// Lines after the last signed head.
    since_head: u64,
    /// The files whose heads the chain was held against.
    held_against: Vec<String>,
    findings: Vec<Finding>,
    /// Findings above those that are listed.
    unlisted: usize,
}

#[derive(Debug, Serialize)]
struct Last {
    seq: u64,
    hash: String,
}

#[derive(Debug, Serialize)]
struct Finding {
    file: String,
    /// Absent where it is about the chain as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    fault: &'static str,
    message: String,
}

pub(super) fn run(args: &cli::AuditVerify, environment: &Environment) -> Result<Exit, Failure> {
    let record = Record::find(args, environment)?;
    let report = record.judge(args.head.as_deref())?;
    if args.json {
        output::json(&report)?;
    } else {
        output::text(&told(&report, args.head.is_some(), record.extent))?;
    }
    Ok(if report.ok { Exit::Done } else { Exit::Negative })
}

/// What is to be judged as one chain.
struct Record {
    /// As the operator knows it.
    name: PathBuf,
    files: Vec<PathBuf>,
    extent: Extent,
    /// The head beside the segments of a directory.
    own_head: Option<PathBuf>,
}

impl Record {
    fn find(args: &cli::AuditVerify, environment: &Environment) -> Result<Self, Failure> {
        match &args.paths[..] {
            [] => {
                let named = args.config.path.as_deref();
                let config = config::to_judge_by(named, environment)?;
                Self::of_directory(&config.audit.directory)
            }
            [path] if path.is_dir() => Self::of_directory(path),
            [first, ..] => {
                if let Some(path) = args.paths.iter().find(|path| path.is_dir()) {
                    return Err(VerifyError::Directory { path: path.clone() }.into());
                }
                Ok(Self {
                    name: first.clone(),
                    files: args.paths.clone(),
                    extent: Extent::Part,
                    own_head: None,
                })
            }
        }
    }

    fn of_directory(directory: &Path) -> Result<Self, Failure> {
        // Before the segments are listed: what it signs is there by then.
        let own_head = Some(directory.join(NEWEST_HEAD)).filter(|path| files::is_there(path));
        let numbers = segments(directory)
            .map_err(|source| VerifyError::Read { path: directory.to_owned(), source })?;
        let files = numbers.iter().map(|number| directory.join(segment_name(*number)));
        Ok(Self {
            name: directory.to_owned(),
            files: files.collect(),
            extent: Extent::Whole,
            own_head,
        })
    }

    fn judge(&self, kept: Option<&Path>) -> Result<Report, VerifyError> {
        let mut findings = Findings::default();
        let mut heads = Vec::new();
        let held_against = kept.into_iter().chain(self.own_head.as_deref());
        for path in held_against.clone() {
            let found = self.own_head.as_deref() == Some(path);
            let file = if found { files::open_regular(path) } else { File::open(path) };
            match KeptHead::read(&bytes(path, file)?) {
                Ok(head) => heads.push(head),
                Err(fault) => findings.add(path, Some(1), &fault),
            }
        }
        let mut verifier = Verifier::expecting(heads);
        let length = |path: &PathBuf| path.metadata().map_or(0, |file| file.len());
        let mut progress = Progress::of(self.files.iter().map(length).sum());
        for path in &self.files {
            let cannot = |source| VerifyError::Read { path: path.clone(), source };
            let file = match self.open(path) {
                // Removed for its age since the directory was listed.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && self.extent == Extent::Whole
                        && verifier.is_new() =>
                {
                    continue;
                }
                opened => opened.map_err(cannot)?,
            };
            let last = self.files.last() == Some(path);
            let file = Growing { file, patience: u32::from(last), ends_a_line: true };
            let file = BufReader::with_capacity(BUFFER, progress.watch(file));
            verifier
                .file(file, |line, fault| findings.add(path, Some(line), &fault))
                .map_err(cannot)?;
        }
        progress.end();
        let (verified, whole) = verifier.finish(self.extent);
        whole.iter().for_each(|fault| findings.add(&self.name, None, fault));
        Ok(self.report(verified, held_against, findings))
    }

    /// Opens what a directory holds, or what was named: that may be a pipe.
    fn open(&self, path: &Path) -> io::Result<File> {
        match self.extent {
            Extent::Whole => files::open_regular(path),
            Extent::Part => File::open(path),
        }
    }

    fn report<'p>(
        &self,
        verified: Verified,
        held_against: impl Iterator<Item = &'p Path>,
        findings: Findings,
    ) -> Report {
        let Verified { lines, heads, since_head, first, removed, last, key } = verified;
        Report {
            ok: findings.listed.is_empty(),
            segments: self.files.len(),
            lines,
            heads,
            first,
            removed,
            last: last.map(|(seq, hash)| Last { seq, hash: hash.to_string() }),
            key: key.map(|key| key.to_string()),
            since_head,
            held_against: held_against.map(shown).collect(),
            findings: findings.listed,
            unlisted: findings.unlisted,
        }
    }
}

/// What is wrong, as much of it as anybody reads.
#[derive(Default)]
struct Findings {
    listed: Vec<Finding>,
    unlisted: usize,
}

impl Findings {
    fn add(&mut self, path: &Path, line: Option<u64>, fault: &Fault) {
        if self.listed.len() == LISTED {
            self.unlisted += 1;
            return;
        }
        let message = shown_within(&fault.to_string(), LONGEST_MESSAGE);
        self.listed.push(Finding { file: shown(path), line, fault: fault.word(), message });
    }
}

fn told(report: &Report, kept: bool, extent: Extent) -> String {
    let mut text = String::new();
    for Finding { file, line, fault: _, message } in &report.findings {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        text += &format!("{BAD}✗{BAD:#} {file}{line}: {message}\n");
    }
    if report.unlisted > 0 {
        text += &format!("{BAD}✗{BAD:#} and {} more\n", report.unlisted);
    }
    let held = format!(
        "{} in {}, {}",
        count(report.lines, "line"),
        count(report.segments, "segment"),
        count(report.heads, "signed head")
    );
    text += &match report.findings.len() + report.unlisted {
        0 => format!("{GOOD}✓{GOOD:#} {held}: the chain is sound\n"),
        faults => format!("{BAD}{}{BAD:#} among {held}\n", count(faults, "finding")),
    };
    if let Some(first) = report.first.filter(|first| *first > 0) {
        text += &match extent {
            Extent::Whole if report.removed => {
                format!("  it begins with line {first}; those before were removed by age\n")
            }
            // Among the findings.
            Extent::Whole => String::new(),
            Extent::Part => {
                format!("  it begins with line {first}; what came before was not given\n")
            }
        };
    }
    if let Some(key) = &report.key {
        text += &format!("  signed under key {key}\n");
    }
    if report.heads == 0 {
        text += "  it holds no signed head: anybody who could write the files may have written \
                 them anew\n";
    } else if report.since_head > 0 {
        let lines = count(report.since_head, "line");
        text += &format!("  {lines} after the last signed head: only as good as the file\n");
    }
    if !kept {
        text += "  no head from elsewhere was given: that the end is there, and that nobody with \
                 the key\n  wrote it anew, is not shown; keep a copy of head.json elsewhere and \
                 name it with --head\n";
    }
    text
}

/// Reads a file to its end, and a little further where a line is still on its way.
struct Growing {
    file: File,
    /// How often it waits.
    patience: u32,
    ends_a_line: bool,
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.file.read(buffer)?;
            if let Some(last) = buffer[..length].last() {
                self.ends_a_line = *last == b'\n';
            }
            if length > 0 || self.ends_a_line || self.patience == 0 {
                return Ok(length);
            }
            self.patience -= 1;
            thread::sleep(ON_ITS_WAY);
        }
    }
}

fn bytes(path: &Path, file: io::Result<File>) -> Result<Vec<u8>, VerifyError> {
    let mut bytes = Vec::new();
    file.and_then(|file| file.take(LONGEST_HEAD).read_to_end(&mut bytes))
        .map_err(|source| VerifyError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// What others have written must not reach a terminal as it is, nor at any length.
fn shown(path: &Path) -> String {
    shown_within(&path.display().to_string(), LONGEST_MESSAGE)
}

const LISTED: usize = 100;
const BUFFER: usize = 256 << 10;
const LONGEST_HEAD: u64 = 64 << 10;
const LONGEST_MESSAGE: usize = 400;
/// Far longer than the writer takes for a line.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
