//! JSON, one object a line, with a bound on the line.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The next object, or none at the end of the input.
///
/// # Errors
///
/// The line is longer than the limit, cut short, or not what was expected.
pub(crate) async fn read<T: DeserializeOwned>(
    input: &mut (impl AsyncBufRead + Unpin),
    limit: u64,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let read = input.take(limit).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        let kind =
            if u64::try_from(read) == Ok(limit) { io::ErrorKind::InvalidData } else { io::ErrorKind::UnexpectedEof };
        return Err(io::Error::new(kind, format!("a line did not end within {limit} bytes")));
    }
    serde_json::from_slice(&line).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

pub(crate) async fn write(output: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    output.write_all(&line).await?;
    output.flush().await
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use serde_json::Value;

    use super::read;

    #[tokio::test]
    async fn lines_are_bounded_and_must_end() {
        let mut input: &[u8] = b"{\"a\":1}\n{\"b\":2}\n";
        assert_eq!(read::<Value>(&mut input, 64).await.unwrap().unwrap()["a"], 1);
        assert_eq!(read::<Value>(&mut input, 64).await.unwrap().unwrap()["b"], 2);
        assert!(read::<Value>(&mut input, 64).await.unwrap().is_none());

        let endless = vec![b'1'; 4096];
        assert_eq!(read::<Value>(&mut endless.as_slice(), 64).await.unwrap_err().kind(), ErrorKind::InvalidData);
        let mut cut: &[u8] = b"{\"a\":";
        assert_eq!(read::<Value>(&mut cut, 64).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let mut nonsense: &[u8] = b"hello\n";
        assert!(read::<Value>(&mut nonsense, 64).await.is_err());
    }
}
