//! `egret init`: a configuration, a policy with its tests, and a state directory.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt, path::Path};

use crate::{
    cli,
    failure::{Exit, Failure},
    files, output, starter,
};

pub(crate) fn run(args: &cli::Init) -> Result<Exit, Failure> {
    let dir = args.dir.as_path();
    let [config, policy] = starter::NAMES.map(|name| dir.join(name));
    let files = [(config, starter::CONFIG), (policy, starter::POLICY)];
    let existing: Vec<_> =
        files.iter().map(|(path, _)| path).filter(|path| files::is_there(path)).cloned().collect();
    if !existing.is_empty() {
        return Err(Failure::Exists { existing });
    }

    make_dir(dir)?;
    let state = dir.join("state");
    starter::prepare_state(&state)?;
    for (path, text) in &files {
        starter::write_new(path, text).map_err(|source| {
            // Somebody else was quicker; theirs stays.
            if source.kind() == io::ErrorKind::AlreadyExists {
                Failure::Exists { existing: vec![path.clone()] }
            } else {
                Failure::Write { path: path.clone(), source }
            }
        })?;
    }

    let [config, policy] = files.map(|(path, _)| path.display().to_string());
    let state = state.display();
    output::text(&format!(
        "wrote {config}, {policy} and the state directory {state}\n\
         check:  egret check -c {config}\n\
         run:    egret serve -c {config}\n\
         try:    curl -x http://127.0.0.1:3128 https://example.com/\n"
    ))?;
    Ok(Exit::Done)
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.map_err(|source| Failure::Write { path: dir.to_owned(), source })
}
