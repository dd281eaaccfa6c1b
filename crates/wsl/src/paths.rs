//! Folders of Windows under the names they have in a distribution, and back: `C:\Users\me` is `/mnt/c/Users/me`.
//!
//! Berth's own settings of its distributions leave the drives where they are by default. Only what means the same on both
//! sides has a name on both: shares of other computers, distributions and devices have none.

/// What a name may not hold on Windows.
const RESERVED: [char; 8] = ['<', '>', ':', '"', '|', '?', '*', '\\'];

/// The name in a distribution of an absolute path of a drive.
#[must_use]
pub fn to_linux(windows: &str) -> Option<String> {
    // With it, any path may be long; it says nothing else.
    let plain = windows.strip_prefix(r"\\?\").unwrap_or(windows);
    let mut characters = plain.chars();
    let drive = characters.next().filter(char::is_ascii_alphabetic)?.to_ascii_lowercase();
    let rest = characters.as_str().strip_prefix(':')?;
    if !rest.starts_with(['\\', '/']) {
        // Relative to wherever that drive is at the moment.
        return None;
    }
    let parts: Vec<&str> = rest.split(['\\', '/']).filter(|part| !part.is_empty()).collect();
    joined(&parts).then(|| parts.iter().fold(format!("/mnt/{drive}"), |path, part| path + "/" + part))
}

/// The name on Windows of an absolute path of a distribution, if it leads to a drive.
#[must_use]
pub fn to_windows(linux: &str) -> Option<String> {
    let rest = linux.strip_prefix("/mnt/")?;
    let (drive, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let mut letters = drive.chars();
    let letter = letters.next().filter(char::is_ascii_lowercase)?.to_ascii_uppercase();
    if letters.next().is_some() {
        return None;
    }
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    joined(&parts).then(|| format!("{letter}:\\{}", parts.join("\\")))
}

/// Whether each of them is a name that means itself on both sides.
fn joined(parts: &[&str]) -> bool {
    parts.iter().all(|part| {
        let plain = part.chars().all(|character| !character.is_control() && !RESERVED.contains(&character));
        plain && *part != "." && *part != ".." && !part.ends_with([' ', '.'])
    })
}

#[cfg(test)]
mod tests {
    use super::{to_linux, to_windows};

    #[test]
    fn drives_have_a_name_on_both_sides() {
        for (windows, linux) in [
            (r"C:\Users\me", "/mnt/c/Users/me"),
            (r"C:\", "/mnt/c"),
            (r"D:\a b\Ünï\x.y", "/mnt/d/a b/Ünï/x.y"),
            (r"Z:\..data", "/mnt/z/..data"),
        ] {
            assert_eq!(to_linux(windows).as_deref(), Some(linux));
            assert_eq!(to_windows(linux).as_deref(), Some(windows));
        }
        assert_eq!(to_linux("c:/Users//me/").as_deref(), Some("/mnt/c/Users/me"));
        assert_eq!(to_linux(r"\\?\C:\Users\me").as_deref(), Some("/mnt/c/Users/me"));
        assert_eq!(to_windows("/mnt/c/Users/me/").as_deref(), Some(r"C:\Users\me"));
    }

    #[test]
    fn what_means_something_else_has_none() {
        for windows in [
            "",
            "C:",
            r"C:me",
            r"\Users",
            "Users",
            r"\\server\share",
            r"\\wsl.localhost\Ubuntu\home",
            r"\\.\pipe\x",
            r"\\?\UNC\server\share",
            r"C:\a\..\b",
            r"C:\a:stream",
            r"C:\a.",
            "Ü:\\",
        ] {
            assert_eq!(to_linux(windows), None, "{windows}");
        }
        for linux in
            ["", "/", "/mnt", "/mnt/", "/mnt/wsl/x", "/mnt/C/x", "/home/me", "/mnt/c/a:b", "/mnt/c/../d", r"/mnt/c/a\b"]
        {
            assert_eq!(to_windows(linux), None, "{linux}");
        }
    }
}
