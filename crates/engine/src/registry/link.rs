//! Reads the `Link` header, by which a registry names the next page of a list.

use super::host::Origin;

const HEADER_CAP: usize = 4 * 1024;

/// Why a next page is not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadLink {
    Unreadable,
    OtherHost,
    OtherPath,
}

impl BadLink {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Unreadable => "the link to the next page cannot be read",
            Self::OtherHost => "the next page is said to be at another host",
            Self::OtherPath => "the next page is said to be in another place",
        }
    }
}

/// The query of the next page of the list at `path`; `None` when this was the last.
pub(super) fn next_query(header: &[u8], origin: &Origin, path: &str) -> Result<Option<String>, BadLink> {
    if header.len() > HEADER_CAP {
        return Err(BadLink::Unreadable);
    }
    let text = std::str::from_utf8(header).map_err(|_| BadLink::Unreadable)?;
    let Some(rest) = text.trim().strip_prefix('<') else { return Err(BadLink::Unreadable) };
    let (target, parameters) = rest.split_once('>').ok_or(BadLink::Unreadable)?;
    let is_next = parameters.split([';', ',']).any(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
    });
    if !is_next {
        return Ok(None);
    }
    // Some registries name the query alone, or the path without its leading slash.
    if let Some(query) = target.strip_prefix('?') {
        return checked(query).map(Some);
    }
    if target.starts_with("//") {
        return Err(BadLink::OtherHost);
    }
    let uri: http::Uri = match target.contains("://") || target.starts_with('/') {
        true => target.parse(),
        false => format!("/{target}").parse(),
    }
    .map_err(|_| BadLink::Unreadable)?;
    if uri.authority().is_some() && Origin::of(&uri).as_ref() != Some(origin) {
        return Err(BadLink::OtherHost);
    }
    if uri.path() != path {
        return Err(BadLink::OtherPath);
    }
    checked(uri.query().unwrap_or_default()).map(Some)
}

fn checked(query: &str) -> Result<String, BadLink> {
    let fine = !query.is_empty() && query.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if fine { Ok(query.to_owned()) } else { Err(BadLink::Unreadable) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(header: &str) -> Result<Option<String>, BadLink> {
        let origin = Origin::of(&"https://r.example:5000/".parse().unwrap()).unwrap();
        next_query(header.as_bytes(), &origin, "/v2/_catalog")
    }

    #[test]
    fn the_next_page_is_the_same_list() {
        let query = Ok(Some("n=100&last=a%2Fb".to_owned()));
        for link in [
            r#"</v2/_catalog?n=100&last=a%2Fb>; rel="next""#,
            "<https://r.example:5000/v2/_catalog?n=100&last=a%2Fb>;rel=next",
            "<https://R.Example:5000/v2/_catalog?n=100&last=a%2Fb>; title=x; REL=\"Next\"",
            "<?n=100&last=a%2Fb>; rel=next",
            "<v2/_catalog?n=100&last=a%2Fb>; rel=next",
        ] {
            assert_eq!(next(link), query, "{link}");
        }
        assert_eq!(next("</v2/_catalog?n=1>; rel=prev"), Ok(None));
    }

    #[test]
    fn other_places_are_refused() {
        for link in [
            "<https://evil.example/v2/_catalog?n=1>; rel=next",
            "<https://r.example/v2/_catalog?n=1>; rel=next",
            "<http://r.example:5000/v2/_catalog?n=1>; rel=next",
            "<//evil.example/v2/_catalog?n=1>; rel=next",
            "<https://u:p@r.example:5000/v2/_catalog?n=1>; rel=next",
        ] {
            assert_eq!(next(link), Err(BadLink::OtherHost), "{link}");
        }
        assert_eq!(next("</v2/x/tags/list?n=1>; rel=next"), Err(BadLink::OtherPath));
        assert_eq!(next("</v2/_catalog/../x?n=1>; rel=next"), Err(BadLink::OtherPath));
        for link in ["", "x", "<", "</v2/_catalog", "</v2/_catalog>; rel=next", "<?>; rel=next", "<? a>;rel=next"] {
            assert_eq!(next(link), Err(BadLink::Unreadable), "{link}");
        }
        assert_eq!(next(&format!("<?{}>; rel=next", "a".repeat(5000))), Err(BadLink::Unreadable));
    }

    proptest! {
        #[test]
        fn no_text_panics(link in "[<>;=\", ?#&/:.a-z\\PC]{0,60}") {
            let _ = next(&link);
        }
    }
}
