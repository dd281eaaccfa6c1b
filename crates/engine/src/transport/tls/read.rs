//! PEM from files that somebody else wrote.

use std::{borrow::Cow, fs::File, io::Read as _, path::Path};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::transport::{Pem, problem::Problem};

/// Far more than any bundle of authorities.
const LIMIT: u64 = 1024 * 1024;

pub(super) const KEY: &str = "The client's key (key.pem)";

pub(super) fn certificates(what: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let text = text(what, pem)?;
    let unusable = |reason: String| Problem::Material { what, reason };
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(format!("it is not in PEM: {error}")))?;
    if found.is_empty() { Err(unusable("there is no certificate in it".to_owned())) } else { Ok(found) }
}

pub(super) fn key(pem: &Pem) -> Result<PrivateKeyDer<'static>, Problem> {
    let text = text(KEY, pem)?;
    let unusable = |reason: &str| Problem::Material { what: KEY, reason: reason.to_owned() };
    let has = |needle: &[u8]| memchr::memmem::find(&text, needle).is_some();
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(unusable("it has a password, which Berth cannot ask for; store it without, readable by you alone"));
    }
    if has(b"BEGIN OPENSSH PRIVATE KEY") {
        return Err(unusable("it is a key for ssh, not for TLS"));
    }
    // What the parser says could hold parts of the key.
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| unusable("there is no private key in PEM in it"))
}

fn text<'a>(what: &'static str, pem: &'a Pem) -> Result<Cow<'a, [u8]>, Problem> {
    match pem {
        Pem::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        Pem::File(path) => Ok(Cow::Owned(file(what, path)?)),
    }
}

fn file(what: &'static str, path: &Path) -> Result<Vec<u8>, Problem> {
    let failed = |reason: String| Problem::MaterialFile { what, path: path.to_owned(), reason };
    let io = |error: std::io::Error| failed(error.to_string());
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(failed("it is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(LIMIT + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LIMIT {
        return Err(failed("it is larger than 1 MiB".to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> Pem {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        Pem::bytes(format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"))
    }

    #[test]
    fn keys_of_all_three_kinds_are_told_apart() {
        assert!(matches!(key(&pem("RSA PRIVATE KEY", b"x")), Ok(PrivateKeyDer::Pkcs1(_))));
        assert!(matches!(key(&pem("PRIVATE KEY", b"x")), Ok(PrivateKeyDer::Pkcs8(_))));
        assert!(matches!(key(&pem("EC PRIVATE KEY", b"x")), Ok(PrivateKeyDer::Sec1(_))));
        let with_parameters = Pem::bytes(
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n\
             -----BEGIN EC PRIVATE KEY-----\neA==\n-----END EC PRIVATE KEY-----\n",
        );
        assert!(matches!(key(&with_parameters), Ok(PrivateKeyDer::Sec1(_))), "openssl ecparam writes both");
    }

    #[test]
    fn what_is_no_key_says_what_it_is() {
        for (given, expected) in [
            (pem("ENCRYPTED PRIVATE KEY", b"x"), "has a password"),
            (Pem::bytes("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"), "has a password"),
            (pem("OPENSSH PRIVATE KEY", b"x"), "for ssh"),
            (pem("CERTIFICATE", b"x"), "no private key"),
            (Pem::bytes("c2VjcmV0"), "no private key"),
            (Pem::File("/".into()), "not a file"),
            (Pem::File("/nonexistent".into()), "/nonexistent"),
        ] {
            let said = key(&given).unwrap_err().to_string();
            assert!(said.contains(expected) && !said.contains("c2Vj"), "{said}");
        }
    }

    #[test]
    fn files_without_end_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        File::create(&path).unwrap().set_len(LIMIT + 1).unwrap();
        let said = certificates("It", &Pem::File(path)).unwrap_err().to_string();
        assert!(said.contains("larger than"), "{said}");
        assert!(certificates("It", &Pem::File("/dev/zero".into())).is_err());
        assert!(certificates("It", &Pem::bytes("")).is_err(), "an empty list would trust nobody, without saying so");
    }
}
