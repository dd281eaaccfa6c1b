//! JSON values one after another, as `/events` and `/images/create` send them.

use bytes::{Buf, BytesMut};
use serde::de::DeserializeOwned;

use crate::Error;

/// Longest value, in bytes.
pub(crate) const VALUE_CAP: usize = 1024 * 1024;

/// Finds the ends of JSON objects in a stream.
///
/// Values are told apart by their braces and not by line ends: engines separate them with `\n`, `\r\n` or nothing.
/// Every byte is looked at once, however small the chunks.
#[derive(Debug, Default)]
pub(crate) struct JsonStream {
    buffer: BytesMut,
    /// Bytes of `buffer` looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl JsonStream {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete value, if it has come.
    pub(crate) fn next<T: DeserializeOwned>(&mut self, what: &str) -> Result<Option<T>, Error> {
        if self.depth == 0 {
            let blank = self.buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            self.buffer.advance(blank);
            self.seen = 0;
            if self.buffer.first().is_some_and(|b| *b != b'{') {
                return Err(decode::<T>(&self.buffer, what).err().unwrap_or_else(|| closed(what)));
            }
        }
        for byte in self.buffer.get(self.seen..).unwrap_or_default() {
            self.seen += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        let value = self.buffer.split_to(self.seen);
                        self.seen = 0;
                        return decode(&value, what).map(Some);
                    }
                }
                _ => {}
            }
            if self.seen > VALUE_CAP {
                return Err(Error::TooLarge { what: what.to_owned(), limit: VALUE_CAP });
            }
        }
        if self.seen > VALUE_CAP {
            return Err(Error::TooLarge { what: what.to_owned(), limit: VALUE_CAP });
        }
        Ok(None)
    }

    /// The stream ended.
    pub(crate) fn finish(&self, what: &str) -> Result<(), Error> {
        if self.buffer.iter().all(u8::is_ascii_whitespace) { Ok(()) } else { Err(closed(what)) }
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Decode { what: what.to_owned(), source })
}

fn closed(what: &str) -> Error {
    Error::Closed { what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(input: &[u8], chunk: usize) -> Result<Vec<Value>, Error> {
        let mut stream = JsonStream::default();
        let mut values = Vec::new();
        for bytes in input.chunks(chunk) {
            stream.push(bytes);
            while let Some(value) = stream.next("a test")? {
                values.push(value);
            }
        }
        stream.finish("a test")?;
        Ok(values)
    }

    #[test]
    fn tells_values_apart_by_their_braces() {
        let input = b"\r\n{\"a\":\"}{\\\"\\\\\"}\r\n{\"b\":[{},[]]}{}\n\n";
        let expected = vec![json!({"a": "}{\"\\"}), json!({"b": [{}, []]}), json!({})];
        for chunk in 1..=input.len() {
            assert_eq!(read(input, chunk).unwrap(), expected, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_truncated_value_is_an_error() {
        assert!(matches!(read(b"{}\n{\"a\":", 3), Err(Error::Closed { .. })));
        assert!(matches!(read(b"{}\n{\"a", 100), Err(Error::Closed { .. })));
    }

    #[test]
    fn refuses_what_is_no_object() {
        for input in ["<html>", "]", "nul", "{]", "{\"a\":}"] {
            assert!(read(input.as_bytes(), 1).is_err(), "{input}");
        }
    }

    #[test]
    fn an_endless_value_is_refused() {
        let mut input = b"{\"a\":\"".to_vec();
        input.resize(VALUE_CAP + 100, b'x');
        assert!(matches!(read(&input, 4_096), Err(Error::TooLarge { .. })));
        assert!(matches!(read(&input, usize::MAX), Err(Error::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn never_panics(input in "[\\[\\]{}\"\\\\a:,\\r\\n]{0,60}", chunk in 1_usize..8) {
            let _ = read(input.as_bytes(), chunk);
        }
    }
}
