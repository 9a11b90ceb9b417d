//! Writes text into TOML so that it reads back as it was.

/// Writes a basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            control if control.is_control() => quoted += &format!("\\u{:04x}", control as u32),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes a key, bare where it may be.
pub(crate) fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { quoted(name) }
}

/// Writes a list of strings: on one line where it fits, else one on each.
pub(crate) fn list<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text.as_ref())).collect();
    let line = format!("[{}]", texts.join(", "));
    if line.len() <= WIDTH { line } else { format!("[\n    {},\n]", texts.join(",\n    ")) }
}

/// What a list may take of a line.
const WIDTH: usize = 84;
