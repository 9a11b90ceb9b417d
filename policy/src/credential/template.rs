//! Templates: text of the policy with the places where a secret, or a field of it, goes.

use std::fmt;

use thiserror::Error;

/// Text with placeholders, as in `Bearer {secret}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[Piece]>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(Box<str>),
    /// `{secret}`: the secret as it is.
    Secret,
    /// `{secret.NAME}`: a field of a secret that is a JSON object.
    Field(Box<str>),
}

/// Why a text is not a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TemplateFault {
    #[error("has a brace that is not part of `{{secret}}` or `{{secret.FIELD}}`")]
    Brace,
    #[error("has the character `{}`, which no field value may have", .0.escape_default())]
    Character(char),
}

impl Template {
    /// Reads a template of the policy: visible ASCII and spaces, since it goes into header fields.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateFault> {
        if let Some(stray) = text.chars().find(|c| !matches!(c, ' '..='~')) {
            return Err(TemplateFault::Character(stray));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(open);
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            let inner = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let Some((inner, after)) = inner else { return Err(TemplateFault::Brace) };
            pieces.push(placeholder(inner).ok_or(TemplateFault::Brace)?);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self(pieces.into()))
    }

    /// Returns the pieces, to be written one behind the other.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether the secret, or a field of it, is in it.
    pub(crate) fn has_secret(&self) -> bool {
        self.0.iter().any(|piece| match piece {
            Piece::Text(_) => false,
            Piece::Secret | Piece::Field(_) => true,
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Secret => f.write_str("{secret}"),
            Piece::Field(name) => write!(f, "{{secret.{name}}}"),
        })
    }
}

fn placeholder(inner: &str) -> Option<Piece> {
    let rest = inner.strip_prefix("secret")?;
    if rest.is_empty() {
        return Some(Piece::Secret);
    }
    let name = rest.strip_prefix('.')?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    (plain && !name.is_empty()).then(|| Piece::Field(name.into()))
}
