//! Credentials: which secret, to which hosts it may ever go, and how it is put into a request.
//!
//! Policy names secrets and never holds one: a [`SecretReference`] is for the vault bridge to
//! resolve, a [`Template`] for it to fill. That each host is https, exact, and reached only under
//! interception was proved when the policy was loaded.

use std::fmt;

use thiserror::Error;

use crate::host::HostName;
use crate::rule::CredentialId;

pub(crate) use self::template::TemplateFault;
pub use self::template::{Piece, Template};

mod template;

/// One `[[credential]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub(crate) id: CredentialId,
    pub(crate) secret: SecretReference,
    /// In order, so that one can be found among many.
    pub(crate) hosts: Box<[(HostName, u16)]>,
    pub(crate) inject: Inject,
    pub(crate) required: bool,
    pub(crate) unscannable: Unscannable,
}

impl Credential {
    /// Returns its name.
    pub fn id(&self) -> &CredentialId {
        &self.id
    }

    /// Returns where the secret is kept.
    pub fn secret(&self) -> &SecretReference {
        &self.secret
    }

    /// Returns the only hosts and ports that the secret may go to, over TLS, in their order.
    pub fn hosts(&self) -> &[(HostName, u16)] {
        &self.hosts
    }

    /// Returns how the secret is placed.
    pub fn inject(&self) -> &Inject {
        &self.inject
    }

    /// Whether a request is refused when the secret cannot be had.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Returns what becomes of answers that cannot be searched for the secret.
    pub fn unscannable(&self) -> Unscannable {
        self.unscannable
    }

    pub(crate) fn goes_to(&self, host: &HostName, port: u16) -> bool {
        self.hosts.binary_search_by(|(own, own_port)| (own, *own_port).cmp(&(host, port))).is_ok()
    }
}

/// What becomes of an answer in an encoding that cannot be searched for the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unscannable {
    /// It is refused.
    Refuse,
    /// It is passed on.
    Pass,
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretReference {
    /// `local:NAME`: in egret's own encrypted vault.
    Local {
        /// The name.
        name: Box<str>,
    },
    /// `vault:MOUNT#PATH:FIELD`: in HashiCorp Vault or OpenBao.
    Vault {
        /// The mount.
        mount: Box<str>,
        /// The path below it.
        path: Box<str>,
        /// The field.
        field: Box<str>,
    },
    /// `aws:NAME:FIELD`: in AWS Secrets Manager.
    Aws {
        /// The name or ARN.
        name: Box<str>,
        /// The field.
        field: Box<str>,
    },
    /// `file:NAME`: a file of a mounted directory.
    File {
        /// The name of the file.
        name: Box<str>,
    },
}

/// Why a text is not a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ReferenceFault {
    #[error("names no backend")]
    Backend,
    #[error("has a part that is empty")]
    Empty,
    #[error("has a character that no reference has")]
    Character,
    #[error("has a segment that is empty, `.` or `..`")]
    Segment,
}

impl SecretReference {
    /// Reads a reference of the policy.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceFault> {
        let (backend, rest) = text.split_once(':').ok_or(ReferenceFault::Backend)?;
        match backend {
            "local" => Ok(Self::Local { name: part(rest, "._-/")? }),
            "file" => Ok(Self::File { name: part(rest, "._-")? }),
            "aws" => {
                let (name, field) = rest.rsplit_once(':').ok_or(ReferenceFault::Empty)?;
                Ok(Self::Aws { name: part(name, "._-/+=@:")?, field: part(field, "._-")? })
            }
            "vault" => {
                let (mount, rest) = rest.split_once('#').ok_or(ReferenceFault::Empty)?;
                let (path, field) = rest.rsplit_once(':').ok_or(ReferenceFault::Empty)?;
                let (mount, path) = (part(mount, "._-/")?, part(path, "._-/@+=")?);
                Ok(Self::Vault { mount, path, field: part(field, "._-")? })
            }
            _ => Err(ReferenceFault::Backend),
        }
    }
}

/// Nothing that climbs, and nothing that a URL or a shell would read as more than a name.
fn part(text: &str, beside: &str) -> Result<Box<str>, ReferenceFault> {
    if text.is_empty() {
        return Err(ReferenceFault::Empty);
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || beside.contains(c)) {
        return Err(ReferenceFault::Character);
    }
    if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(ReferenceFault::Segment);
    }
    Ok(text.into())
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { name } => write!(f, "local:{name}"),
            Self::Vault { mount, path, field } => write!(f, "vault:{mount}#{path}:{field}"),
            Self::Aws { name, field } => write!(f, "aws:{name}:{field}"),
            Self::File { name } => write!(f, "file:{name}"),
        }
    }
}

/// How a secret is put into a request. Names of header fields are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inject {
    /// As the value of a header field.
    Header {
        /// The field.
        name: Box<str>,
        /// Its value.
        value: Template,
    },
    /// As Basic authentication.
    Basic {
        /// The user.
        user: Template,
        /// The password.
        password: Template,
    },
    /// As a parameter of the query.
    Query {
        /// The key.
        key: Box<str>,
        /// Its value.
        value: Template,
    },
    /// Wherever the worker put a placeholder, in the named places.
    Placeholder {
        /// What the worker writes instead of the secret.
        placeholder: Box<str>,
        /// Where it is looked for.
        places: Box<[Place]>,
    },
    /// As an AWS Signature, version 4.
    Sigv4 {
        /// The access key id.
        access_key: Template,
        /// The secret access key.
        secret_key: Template,
        /// The region.
        region: Box<str>,
        /// The service.
        service: Box<str>,
    },
    /// As a bearer token that is fetched with client credentials.
    Oauth2 {
        /// Where tokens are fetched: an https URL.
        token_url: Box<str>,
        /// The client.
        client_id: Template,
        /// Its secret.
        client_secret: Template,
        /// What is asked for.
        scope: Option<Box<str>>,
    },
}

/// A place where a placeholder may stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The value of a header field.
    Header(Box<str>),
    /// The value of a parameter of the query.
    Query(Box<str>),
}

/// How two credentials would spoil each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    /// Both write a place whole.
    BothWrite,
    /// This one writes the place whole that the other one's placeholder is looked for in.
    Overwrites,
    /// The other way round.
    OtherOverwrites,
    /// One placeholder contains the other.
    Nested,
}

impl Inject {
    /// Returns how two credentials of one request would spoil each other, and where.
    pub(crate) fn clash(&self, other: &Self) -> Option<(Clash, Place)> {
        let (ours, theirs) = (self.places(), other.places());
        let both = |one: &[Place], other: &[Place]| one.iter().find(|p| other.contains(p)).cloned();
        if let Some(place) = both(&ours, &theirs) {
            return Some((Clash::BothWrite, place));
        }
        if let Some(place) = both(self.searched(), &theirs) {
            return Some((Clash::OtherOverwrites, place));
        }
        if let Some(place) = both(other.searched(), &ours) {
            return Some((Clash::Overwrites, place));
        }
        let (
            Self::Placeholder { placeholder: our, places: ours },
            Self::Placeholder { placeholder: their, places: theirs },
        ) = (self, other)
        else {
            return None;
        };
        let nested = our.contains(&**their) || their.contains(&**our);
        Some((Clash::Nested, both(ours, theirs).filter(|_| nested)?))
    }

    /// Returns the places where a placeholder is looked for.
    fn searched(&self) -> &[Place] {
        match self {
            Self::Placeholder { places, .. } => places,
            Self::Header { .. }
            | Self::Basic { .. }
            | Self::Query { .. }
            | Self::Sigv4 { .. }
            | Self::Oauth2 { .. } => &[],
        }
    }

    /// Returns the places that are written whole.
    fn places(&self) -> Vec<Place> {
        match self {
            Self::Header { name, .. } => vec![Place::Header(name.clone())],
            Self::Query { key, .. } => vec![Place::Query(key.clone())],
            // A placeholder replaces itself only, so several that differ may share a field.
            Self::Placeholder { .. } => vec![],
            Self::Basic { .. } | Self::Sigv4 { .. } | Self::Oauth2 { .. } => {
                vec![Place::Header("authorization".into())]
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(key) => write!(f, "query:{key}"),
        }
    }
}

#[cfg(test)]
mod tests;
