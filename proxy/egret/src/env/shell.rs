//! Writes variables in the words of whoever is to read them.
//!
//! Each form quotes what its reader would take for more than text. A value that a form has no
//! words for is refused: one that was cut or split would set something else.

use clap::ValueEnum;

use super::variables::Variable;
use crate::failure::Exit;

/// Who reads the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// sh, bash, zsh, …: eval "$(egret env)"
    #[value(aliases = ["bash", "zsh", "dash"])]
    Sh,
    /// fish: egret env --shell fish | source
    Fish,
    /// PowerShell: egret env --shell powershell | Out-String | Invoke-Expression
    #[value(alias = "pwsh")]
    Powershell,
    /// A .env file
    Dotenv,
    /// A file for `docker run --env-file`
    Docker,
    /// GitHub Actions: egret env --shell github >> "$GITHUB_ENV"
    Github,
    /// A Kubernetes Secret, or a ConfigMap where there is no token, for `envFrom`
    #[value(alias = "kubernetes")]
    K8s,
}

/// Why a variable cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShellError {
    #[error("{name} holds a control character, such as the end of a line")]
    Control { name: String },
    #[error("{name} holds a single quote, which no reader of .env files takes like another")]
    Quote { name: String },
    #[error("a file cannot take a variable back")]
    Unset,
}

impl ShellError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unset => Exit::Usage,
            Self::Control { .. } | Self::Quote { .. } => Exit::Failure,
        }
    }

    pub(crate) fn fix(&self) -> String {
        match self {
            Self::Control { name } => format!("unset {name}, or set it in one line"),
            Self::Quote { name } => format!("unset {name}, or use another `--shell`"),
            Self::Unset => {
                "use `--shell sh`, fish or powershell, or write the file anew".to_owned()
            }
        }
    }
}

impl Shell {
    /// Whether the reader has another environment than this one.
    pub(crate) fn begins_anew(self) -> bool {
        match self {
            Self::Dotenv | Self::Docker | Self::K8s => true,
            Self::Sh | Self::Fish | Self::Powershell | Self::Github => false,
        }
    }

    /// Whether the reader is in a container, to which the loopback address is its own.
    pub(crate) fn is_of_container(self) -> bool {
        match self {
            Self::Docker | Self::K8s => true,
            Self::Sh | Self::Fish | Self::Powershell | Self::Dotenv | Self::Github => false,
        }
    }

    /// Writes variables, one after the other; `secret` says whether one of them holds a token.
    pub(crate) fn write(self, variables: &[Variable], secret: bool) -> Result<String, ShellError> {
        let mut text = match (self, secret) {
            (Self::K8s, true) => format!("{SECRET}stringData:\n"),
            (Self::K8s, false) => format!("{CONFIG_MAP}data:\n"),
            (
                Self::Sh
                | Self::Fish
                | Self::Powershell
                | Self::Dotenv
                | Self::Docker
                | Self::Github,
                _,
            ) => String::new(),
        };
        for Variable { name, value } in variables {
            text += &match value {
                Some(value) if value.contains(char::is_control) => {
                    return Err(ShellError::Control { name: name.to_string() });
                }
                Some(value) => self.set(name, value)?,
                None => self.unset(name)?,
            };
        }
        Ok(text)
    }

    fn set(self, name: &str, value: &str) -> Result<String, ShellError> {
        Ok(match self {
            Self::Sh => format!("export {name}='{}'\n", value.replace('\'', r"'\''")),
            Self::Fish => {
                let value = value.replace('\\', r"\\").replace('\'', r"\'");
                format!("set -gx {name} '{value}'\n")
            }
            // PowerShell ends a text at any of these, and takes two for one.
            Self::Powershell => {
                let quotes = ['\'', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'];
                let value = quotes.into_iter().fold(value.to_owned(), |value, quote| {
                    value.replace(quote, &format!("{quote}{quote}"))
                });
                format!("$env:{name} = '{value}'\n")
            }
            Self::Dotenv if value.contains('\'') => {
                return Err(ShellError::Quote { name: name.to_owned() });
            }
            Self::Dotenv => format!("{name}='{value}'\n"),
            Self::Docker | Self::Github => format!("{name}={value}\n"),
            // A text of JSON is one of YAML.
            Self::K8s => format!("  {name}: {}\n", serde_json::Value::from(value)),
        })
    }

    fn unset(self, name: &str) -> Result<String, ShellError> {
        match self {
            Self::Sh => Ok(format!("unset {name}\n")),
            Self::Fish => Ok(format!("set -e {name}\n")),
            Self::Powershell => {
                Ok(format!("Remove-Item Env:{name} -ErrorAction SilentlyContinue\n"))
            }
            Self::Dotenv | Self::Docker | Self::Github | Self::K8s => Err(ShellError::Unset),
        }
    }
}

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: egret-env\n";
const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: egret-env\n";

#[cfg(test)]
mod tests;
