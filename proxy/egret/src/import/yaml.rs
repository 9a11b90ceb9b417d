//! YAML as a tree in which each value knows its line.
//!
//! Aliases are followed, and what they stand for counts each time against one bound, so that a
//! short text cannot become a large one. A key that is there twice refuses, as it is not said
//! which one counts; so does `<<`, which not all who read YAML take for what it stands for.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use saphyr_parser::{Event, Parser};

use super::Refused;

/// A value and the line where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) kind: Kind,
    /// Values in it, itself included, with aliases as what they stand for.
    size: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar(String),
    List(Vec<Rc<Node>>),
    Map(Vec<(String, Rc<Node>)>),
}

impl Node {
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text) => Some(text),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }
}

/// Reads a text of one document.
pub(super) fn read(text: &str) -> Result<Rc<Node>, Refused> {
    let mut reader = Reader { anchors: HashMap::new(), open: Vec::new(), root: None };
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| Refused::new(error.marker().line(), error.info()))?;
        reader.take(event, span.start.line())?;
    }
    reader.root.ok_or_else(|| Refused::new(1, "there is nothing in the file"))
}

/// A list or a map that has not ended.
struct Open {
    line: usize,
    anchor: usize,
    children: Children,
}

enum Children {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<(String, Rc<Node>)>, names: HashSet<String>, key: Option<String> },
}

struct Reader {
    anchors: HashMap<usize, Rc<Node>>,
    open: Vec<Open>,
    root: Option<Rc<Node>>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Refused> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Refused::new(line, "there is a second document"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node =
                    node.ok_or_else(|| Refused::new(line, "an alias of what is around it"))?;
                self.place(node, line)
            }
            Event::Scalar(text, _, anchor, _) => {
                let kind = Kind::Scalar(text.into_owned());
                self.keep(anchor, Node { line, kind, size: 1 }, line)
            }
            Event::SequenceStart(anchor, _) => self.begin(line, anchor, Children::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(
                line,
                anchor,
                Children::Map { entries: Vec::new(), names: HashSet::new(), key: None },
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(line),
        }
    }

    fn begin(&mut self, line: usize, anchor: usize, children: Children) -> Result<(), Refused> {
        if self.open.len() == DEEPEST {
            return Err(Refused::new(line, "values within values, deeper than any rule needs"));
        }
        self.open.push(Open { line, anchor, children });
        Ok(())
    }

    fn end(&mut self, line: usize) -> Result<(), Refused> {
        let Open { line: begun, anchor, children } =
            self.open.pop().ok_or_else(|| Refused::new(line, "an end without a beginning"))?;
        let within = |nodes: &mut dyn Iterator<Item = &Rc<Node>>| {
            nodes.fold(1_usize, |size, node| size.saturating_add(node.size))
        };
        let (size, kind) = match children {
            Children::List(nodes) => (within(&mut nodes.iter()), Kind::List(nodes)),
            Children::Map { entries, .. } => {
                (within(&mut entries.iter().map(|(_, node)| node)), Kind::Map(entries))
            }
        };
        if size > LARGEST {
            return Err(Refused::new(begun, "aliases stand for more than any rule needs"));
        }
        self.keep(anchor, Node { line: begun, kind, size }, begun)
    }

    fn keep(&mut self, anchor: usize, node: Node, line: usize) -> Result<(), Refused> {
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node, line)
    }

    /// Puts a value where the text has it.
    fn place(&mut self, node: Rc<Node>, line: usize) -> Result<(), Refused> {
        match self.open.last_mut().map(|open| &mut open.children) {
            None => self.root = Some(node),
            Some(Children::List(nodes)) => nodes.push(node),
            Some(Children::Map { entries, names, key }) => match key.take() {
                Some(name) => entries.push((name, node)),
                None => {
                    let name = node.text().ok_or_else(|| Refused::new(line, "a key is no text"))?;
                    if name == MERGE {
                        let problem = "`<<` puts other keys in; write them in its place";
                        return Err(Refused::new(line, problem));
                    }
                    if !names.insert(name.to_owned()) {
                        return Err(Refused::new(line, format!("`{name}` is there twice")));
                    }
                    *key = Some(name.to_owned());
                }
            },
        }
        Ok(())
    }
}

/// The key whose value is keys and values of the map around it.
const MERGE: &str = "<<";
const DEEPEST: usize = 16;
const LARGEST: usize = 1 << 20;
