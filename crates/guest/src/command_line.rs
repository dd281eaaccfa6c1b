//! Words of the kernel's command line, by which the host tells a machine what it is to be.

const FILE: &str = "/proc/cmdline";

/// What stands behind `name=`.
pub(crate) fn value(name: &str) -> Option<String> {
    let line = std::fs::read_to_string(FILE).unwrap_or_default();
    find(&line, name).map(str::to_owned)
}

fn find<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn a_word_is_found_by_its_whole_name() {
        let line = "quiet berth.network=x berth.net=dhcp berth.net=other\n";
        assert_eq!(find(line, "berth.net"), Some("dhcp"));
        assert_eq!((find(line, "berth"), find(line, "quiet"), find("", "a")), (None, None, None));
    }
}
