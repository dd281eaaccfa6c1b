//! Quoting for the command lines Berth shows: pasted into a POSIX shell they mean what they say.

/// The text as one word of a POSIX shell.
pub(crate) fn quote(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@,+%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    // A control character could do things to the terminal it is pasted into.
    if text.chars().any(char::is_control) {
        let mut quoted = String::from("$'");
        for character in text.chars() {
            match character {
                '\'' => quoted.push_str("\\'"),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                control if control.is_control() => {
                    let mut bytes = [0; 4];
                    for byte in control.encode_utf8(&mut bytes).bytes() {
                        quoted.push_str(&format!("\\x{byte:02x}"));
                    }
                }
                other => quoted.push(other),
            }
        }
        quoted.push('\'');
        return quoted;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_come_back_from_a_real_shell_as_they_went_in() {
        let texts = ["plain", "", "two words", "it's", "$(reboot)", "`x`", "a;b", "é ü", "-n", "*", "\\", "~"];
        for text in texts {
            let output =
                std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(text))).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), text, "quoted as {}", quote(text));
        }
    }

    #[test]
    fn control_characters_never_reach_the_terminal_raw() {
        assert_eq!(quote("a\u{1b}[2J\nb'c"), r"$'a\x1b[2J\nb\'c'");
    }
}
