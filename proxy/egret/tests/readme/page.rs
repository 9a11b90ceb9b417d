//! The README as a list of blocks: text, and the commands that it shows with what they print.

/// One fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The language after the opening fence.
    pub(crate) language: String,
    pub(crate) text: String,
    /// Where `text` stands in the page, in bytes.
    pub(crate) at: std::ops::Range<usize>,
    /// The picture that follows the block, if one does.
    pub(crate) picture: Option<String>,
}

/// One command of a `console` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// What is typed, all its lines.
    pub(crate) command: String,
    /// The same with its prompts, as it stands in the page.
    pub(crate) prompt: String,
    /// What is printed.
    pub(crate) output: String,
}

/// Finds the fenced blocks of a page.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize)> = None;
    let mut at = 0;
    for line in page.split_inclusive('\n') {
        let here = at;
        at += line.len();
        let Some(name) = line.trim_end().strip_prefix("```") else { continue };
        match open.take() {
            None => open = Some((name.to_owned(), at)),
            Some((language, start)) => {
                let picture = page[at..].trim_start().strip_prefix("![").and_then(|rest| {
                    let (_, target) = rest.split_once("](")?;
                    Some(target.split_once(')')?.0.to_owned())
                });
                let text = page[start..here].to_owned();
                blocks.push(Block { language, text, at: start..here, picture });
            }
        }
    }
    blocks
}

impl Block {
    /// Returns the commands of a `console` block: `$` begins one, `>` continues it.
    pub(crate) fn commands(&self) -> Vec<Shown> {
        let mut commands: Vec<Shown> = Vec::new();
        for line in self.text.lines() {
            let last = commands.last_mut();
            match (line.strip_prefix("$ "), line.strip_prefix("> "), last) {
                (Some(command), _, _) => commands.push(Shown {
                    command: command.to_owned(),
                    prompt: format!("{line}\n"),
                    output: String::new(),
                }),
                (None, Some(more), Some(last)) if last.output.is_empty() => {
                    last.command += &format!("\n{more}");
                    last.prompt += &format!("{line}\n");
                }
                (None, _, Some(last)) => last.output += &format!("{line}\n"),
                (None, _, None) => {}
            }
        }
        commands
    }
}
