//! A part of the bench in a process of its own, spoken with in lines over its pipes.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    str::FromStr,
};

/// A running part; it ends with this.
pub(crate) struct Role {
    name: &'static str,
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Role {
    /// Starts this program again in another role, and returns what it says when it is ready.
    pub(crate) fn start(name: &'static str, arguments: &[String]) -> io::Result<(Self, String)> {
        let mut process = Command::new(env::current_exe()?)
            .arg(name)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(questions), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("a child has no pipes"));
        };
        let mut role = Self { name, process, questions, answers: BufReader::new(answers) };
        let ready = role.answer()?;
        Ok((role, ready))
    }

    /// Asks one question and returns the answer.
    pub(crate) fn ask(&mut self, question: &str) -> io::Result<String> {
        writeln!(self.questions, "{question}")?;
        self.answer()
    }

    /// Asks a question whose answer is a number.
    pub(crate) fn number(&mut self, question: &str) -> io::Result<u64> {
        parse(&self.ask(question)?)
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::Error::other(format!("the {} ended", self.name))),
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Says that the role is ready, then answers each question until there are no more.
pub(crate) fn answer(
    ready: &str,
    mut answer: impl FnMut(&[&str]) -> io::Result<String>,
) -> io::Result<()> {
    println!("{ready}");
    for line in io::stdin().lines() {
        let line = line?;
        println!("{}", answer(&line.split(' ').collect::<Vec<_>>())?);
    }
    Ok(())
}

/// Reads a word that this program wrote itself.
pub(crate) fn parse<T: FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("`{word}` is not what was expected")))
}

/// The answer to a question that nobody asks.
pub(crate) fn unknown(question: &[&str]) -> io::Result<String> {
    Err(io::Error::other(format!("unknown question {question:?}")))
}
