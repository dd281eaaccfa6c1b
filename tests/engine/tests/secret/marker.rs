//! Texts that stand for secrets, and every form in which one could turn up elsewhere.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use berth_testkit::raw::encode;
use memchr::memmem;

/// The name it is used with where there is one.
pub(crate) const USER: &str = "me";

/// A text that stands for a secret.
pub(crate) struct Marker {
    /// What it is used as.
    pub(crate) name: &'static str,
    /// As it is used.
    pub(crate) text: String,
    forms: Vec<Form>,
}

struct Form {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Marker {
    /// One that was never used before, with characters that every format writes in its own way.
    pub(crate) fn random(name: &'static str) -> Self {
        let mut bytes = [0; 16];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        let core = hexadecimal(&bytes);
        Self::with_core(name, &core, format!("mk-{core}/+ \"\\<&%é"))
    }

    /// A secret that others made: a key, a token.
    pub(crate) fn of(name: &'static str, text: &str) -> Self {
        Self::with_core(name, text, text.to_owned())
    }

    /// A key of the curve P-256 in PEM.
    pub(crate) fn of_key(name: &'static str, pem: &str) -> Self {
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let bytes = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).unwrap();
        // Behind 36 bytes that say what it is.
        let secret = &bytes[36..68];
        let hexadecimal = hexadecimal(secret);
        let forms = vec![
            Form { name: "as it is", bytes: secret.into() },
            Form { name: "PEM", bytes: pem.lines().nth(1).unwrap().into() },
            Form { name: "hexadecimal, in capitals", bytes: hexadecimal.to_uppercase().into() },
            Form { name: "a list of bytes", bytes: list(secret).into() },
            Form { name: "hexadecimal", bytes: hexadecimal.into() },
        ];
        Self { name, text: pem.to_owned(), forms }
    }

    /// `core` is the part of `text` that only an encoding of everything changes.
    fn with_core(name: &'static str, core: &str, text: String) -> Self {
        let quoted = serde_json::Value::from(text.as_str()).to_string();
        let pair = format!("{USER}:{text}");
        let mut forms = vec![
            Form { name: "as it is, in part", bytes: core.into() },
            Form { name: "as it is", bytes: text.clone().into() },
            Form { name: "percent-encoded", bytes: encode(&text).into() },
            Form { name: "escaped as in JSON", bytes: quoted.trim_matches('"').into() },
            Form { name: "base64 with its user", bytes: STANDARD_NO_PAD.encode(&pair).into() },
            Form { name: "base64url with its user", bytes: URL_SAFE_NO_PAD.encode(&pair).into() },
            Form { name: "hexadecimal", bytes: hexadecimal(core.as_bytes()).into() },
            Form { name: "hexadecimal, in capitals", bytes: hexadecimal(core.as_bytes()).to_uppercase().into() },
            Form { name: "a list of bytes", bytes: list(core.as_bytes()).into() },
            Form { name: "UTF-16", bytes: core.encode_utf16().flat_map(u16::to_le_bytes).collect() },
        ];
        for before in 0..3 {
            forms.push(Form { name: "base64 of something it is in", bytes: within(core, before).into() });
        }
        Self { name, text, forms }
    }

    /// The forms in which it is in `bytes`.
    pub(crate) fn forms_in(&self, bytes: &[u8]) -> Vec<&'static str> {
        self.forms.iter().filter(|form| memmem::find(bytes, &form.bytes).is_some()).map(|form| form.name).collect()
    }

    /// All of its forms, each with its name.
    pub(crate) fn forms(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.forms.iter().map(|form| (form.name, form.bytes.as_slice()))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `Debug` prints a list of bytes.
fn list(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

/// What is the same in the base64 of everything in which `before` bytes, and then any number of threes, come before it.
fn within(text: &str, before: usize) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(text.as_bytes());
    let encoded = STANDARD_NO_PAD.encode(&bytes);
    let (begin, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    encoded[begin..end].to_owned()
}
