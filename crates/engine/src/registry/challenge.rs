//! Reads `WWW-Authenticate`: how a registry wants to be logged in to.

/// The longest header looked at, in bytes.
pub const HEADER_CAP: usize = 8 * 1024;

const PARAMETER_CAP: usize = 16;
const CHALLENGE_CAP: usize = 8;

/// One way to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Challenge {
    /// With a name and a password in every request.
    Basic,
    /// With a token from a token server.
    Bearer {
        /// Address of the token server.
        realm: String,
        /// What the token server calls the registry.
        service: Option<String>,
        /// What the token should allow.
        scope: Option<String>,
        /// Why a token that was sent is not enough.
        error: Option<String>,
    },
}

/// The challenges in one header that this client knows how to meet, in their order.
///
/// What follows a syntax error is left out, and so is everything of a header longer than [`HEADER_CAP`].
#[must_use]
pub fn parse(header: &[u8]) -> Vec<Challenge> {
    if header.len() > HEADER_CAP {
        return Vec::new();
    }
    let mut challenges = Vec::new();
    let mut rest = Input(header);
    while let Some((scheme, parameters)) = rest.challenge() {
        challenges.extend(meet(&scheme, &parameters));
        if challenges.len() >= CHALLENGE_CAP {
            break;
        }
    }
    challenges
}

fn meet(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: value("realm")?,
            service: value("service"),
            scope: value("scope"),
            error: value("error"),
        }),
        _ => None,
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// `scheme SP name=value, name="value", …`: a word that is not followed by `=` begins the next challenge.
    fn challenge(&mut self) -> Option<(String, Vec<(String, String)>)> {
        self.separators();
        let scheme = self.token()?;
        let mut parameters = Vec::new();
        loop {
            let before = self.0;
            self.separators();
            match self.parameter() {
                Some(parameter) if parameters.len() < PARAMETER_CAP => parameters.push(parameter),
                Some(_) => {}
                None => {
                    self.0 = before;
                    self.token68();
                    break;
                }
            }
        }
        Some((scheme, parameters))
    }

    fn parameter(&mut self) -> Option<(String, String)> {
        let name = self.token()?;
        self.spaces();
        self.take(b'=')?;
        self.spaces();
        let value = if self.take(b'"').is_some() { self.quoted()? } else { self.plain()? };
        Some((name, value))
    }

    /// Old schemes carry one bare word such as `Negotiate abc==` instead of parameters.
    fn token68(&mut self) {
        let before = self.0;
        let spaced = self.0.first().is_some_and(|b| matches!(b, b' ' | b'\t'));
        self.spaces();
        let word = self.run(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b)).len();
        self.run(|b| b == b'=');
        self.spaces();
        let ended = self.0.first().is_none_or(|&b| b == b',');
        if !(spaced && ended && word > 0) {
            self.0 = before;
        }
    }

    fn quoted(&mut self) -> Option<String> {
        let mut value = Vec::new();
        loop {
            match self.next()? {
                b'"' => return String::from_utf8(value).ok(),
                b'\\' => value.push(self.next()?),
                byte => value.push(byte),
            }
        }
    }

    /// A value without quotes. Some registries leave them out even around addresses.
    fn plain(&mut self) -> Option<String> {
        let value = self.run(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'"'));
        (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
    }

    fn token(&mut self) -> Option<String> {
        let token = self.run(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        (!token.is_empty()).then(|| String::from_utf8_lossy(token).to_ascii_lowercase())
    }

    fn separators(&mut self) {
        self.run(|b| matches!(b, b' ' | b'\t' | b','));
    }

    fn spaces(&mut self) {
        self.run(|b| matches!(b, b' ' | b'\t'));
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.0.first() == Some(&byte)).then(|| self.next()).flatten().map(|_| ())
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn run(&mut self, admits: impl Fn(u8) -> bool) -> &[u8] {
        let length = self.0.iter().take_while(|&&b| admits(b)).count();
        let (run, rest) = self.0.split_at_checked(length).unwrap_or_default();
        self.0 = rest;
        run
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope), error: None }
    }

    #[test]
    fn the_headers_of_real_registries() {
        let hub = br#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push""#;
        let expected = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:library/alpine:pull,push"),
        );
        assert_eq!(parse(hub), [expected]);
        assert_eq!(parse(br#"Basic realm="Registry Realm""#), [Challenge::Basic]);
        assert_eq!(parse(b"basic"), [Challenge::Basic]);
        assert_eq!(
            parse(br#"BEARER Realm = "https://a/t" , Service=a.b,scope="""#),
            [bearer("https://a/t", Some("a.b"), Some(""))]
        );
    }

    #[test]
    fn several_challenges_in_one_header() {
        let header = br#"Negotiate, Negotiate abc+/==, Digest realm="x", nonce="Basic realm=\"y\"", Basic realm="z", Bearer realm="https://a/t""#;
        assert_eq!(parse(header), [Challenge::Basic, bearer("https://a/t", None, None)]);
        assert_eq!(parse(br#"Bearer realm="a",Basic"#), [bearer("a", None, None), Challenge::Basic]);
    }

    #[test]
    fn quoted_strings_keep_what_is_escaped() {
        assert_eq!(parse(br#"Bearer realm="a\"b\\c, d=e""#), [bearer(r#"a"b\c, d=e"#, None, None)]);
    }

    #[test]
    fn the_first_of_two_values_counts() {
        assert_eq!(parse(br#"Bearer realm="a",realm="b""#), [bearer("a", None, None)]);
    }

    #[test]
    fn nonsense_gives_nothing() {
        let long = format!("Basic realm=\"{}\"", "a".repeat(HEADER_CAP));
        let headers =
            ["", ",,,", "=", "\"", "Bearer", "Bearer realm=\"a", "Bearer realm=\"a\\", "Bearer scope=x", &long];
        for header in headers {
            assert_eq!(parse(header.as_bytes()), [], "{header:.40}");
        }
        assert_eq!(parse("Bearer realm=\"\u{e9}\"".as_bytes()), [bearer("\u{e9}", None, None)]);
        assert_eq!(parse(b"Bearer realm=\"\xff\""), []);
        assert!(parse("Basic,".repeat(500).as_bytes()).len() <= CHALLENGE_CAP);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_hang(header in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&header);
        }

        #[test]
        fn nothing_of_the_alphabet_panics_or_hangs(header in "(Basic|Bearer|realm|[=\", \\\\a]){0,40}") {
            prop_assert!(parse(header.as_bytes()).len() <= CHALLENGE_CAP);
        }

        #[test]
        fn what_is_quoted_is_read_back(realm in "[ -~]{0,60}", service in "[ -~]{0,30}") {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Bearer realm=\"{}\",service=\"{}\"", quote(&realm), quote(&service));
            prop_assert_eq!(parse(header.as_bytes()), [bearer(&realm, Some(&service), None)]);
        }
    }
}
