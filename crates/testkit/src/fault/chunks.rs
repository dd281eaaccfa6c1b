//! Damage to the chunks of an answer, which needs to know where they are.

/// What is done to one chunk; chunks count from 0, and the last one, which is empty, is one as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkEdit {
    /// It comes twice.
    Twice,
    /// Its size is told as this, such as `ffffffffffffffff`, `-1` or `zz`.
    Size(&'static str),
    /// The line end behind its bytes is missing.
    WithoutLineEnd,
    /// It and all that follows is missing, and the connection closes.
    Missing,
    /// The last chunk is missing, whatever its number, and the connection closes.
    LastMissing,
}

enum State {
    Head,
    Size,
    Data(usize),
    Over,
}

/// Follows the chunks of one answer.
pub(super) struct ChunkEditor {
    number: usize,
    edit: ChunkEdit,
    state: State,
    waiting: Vec<u8>,
    count: usize,
}

impl ChunkEditor {
    pub(super) fn new(number: usize, edit: ChunkEdit) -> Self {
        Self { number, edit, state: State::Head, waiting: Vec::new(), count: 0 }
    }

    /// Takes bytes of the answer and gives those to send; true if the connection is to be closed behind them.
    pub(super) fn push(&mut self, piece: &[u8]) -> (Vec<u8>, bool) {
        self.waiting.extend_from_slice(piece);
        let mut out = Vec::new();
        loop {
            match self.state {
                State::Over => {
                    out.append(&mut self.waiting);
                    return (out, false);
                }
                State::Head => match find(&self.waiting, b"\r\n\r\n") {
                    Some(end) => {
                        let chunked = self.waiting.drain(..end + 4).collect::<Vec<_>>();
                        let is_chunked = find(&chunked.to_ascii_lowercase(), b"transfer-encoding: chunked").is_some();
                        out.extend(chunked);
                        self.state = if is_chunked { State::Size } else { State::Over };
                    }
                    None => return (out, false),
                },
                State::Size => match find(&self.waiting, b"\r\n") {
                    Some(end) => {
                        let line = self.waiting.drain(..end + 2).collect::<Vec<_>>();
                        let digits = String::from_utf8_lossy(line.get(..end).unwrap_or_default()).into_owned();
                        self.state = State::Data(usize::from_str_radix(digits.trim(), 16).unwrap_or(0));
                    }
                    None => return (out, false),
                },
                State::Data(size) => {
                    if self.waiting.len() < size + 2 {
                        return (out, false);
                    }
                    let data = self.waiting.drain(..size + 2).collect::<Vec<_>>();
                    self.state = if size == 0 { State::Head } else { State::Size };
                    if self.write(data.get(..size).unwrap_or_default(), &mut out) {
                        return (out, true);
                    }
                    self.count += 1;
                }
            }
        }
    }

    fn write(&self, data: &[u8], out: &mut Vec<u8>) -> bool {
        let meant = self.count == self.number;
        let honest = format!("{:x}", data.len());
        match self.edit {
            ChunkEdit::LastMissing if data.is_empty() => return true,
            ChunkEdit::Missing if meant => return true,
            ChunkEdit::Size(size) if meant => chunk(size, data, "\r\n", out),
            ChunkEdit::WithoutLineEnd if meant => chunk(&honest, data, "", out),
            ChunkEdit::Twice if meant => {
                chunk(&honest, data, "\r\n", out);
                chunk(&honest, data, "\r\n", out);
            }
            _ => chunk(&honest, data, "\r\n", out),
        }
        false
    }
}

fn chunk(size: &str, data: &[u8], end: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(size.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(end.as_bytes());
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";

    fn edited(number: usize, edit: ChunkEdit) -> (String, bool) {
        let mut editor = ChunkEditor::new(number, edit);
        let mut out = Vec::new();
        let mut closed = false;
        for byte in ANSWER {
            let (more, over) = editor.push(&[*byte]);
            out.extend(more);
            closed |= over;
        }
        let text = String::from_utf8(out).unwrap();
        (text.split_once("\r\n\r\n").unwrap().1.to_owned(), closed)
    }

    #[test]
    fn one_chunk_is_damaged_and_the_others_are_not() {
        assert_eq!(edited(9, ChunkEdit::Twice), ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_owned(), false));
        assert_eq!(edited(0, ChunkEdit::Twice).0, "3\r\nabc\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        assert_eq!(edited(1, ChunkEdit::Size("-1")).0, "3\r\nabc\r\n-1\r\nde\r\n0\r\n\r\n");
        assert_eq!(edited(0, ChunkEdit::WithoutLineEnd).0, "3\r\nabc2\r\nde\r\n0\r\n\r\n");
        assert_eq!(edited(1, ChunkEdit::Missing), ("3\r\nabc\r\n".to_owned(), true));
        assert_eq!(edited(0, ChunkEdit::LastMissing), ("3\r\nabc\r\n2\r\nde\r\n".to_owned(), true));
    }
}
