//! Reading answers of engines that do not keep to the API in every field.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// Fields that may be wrong in one answer.
const REPAIRS: usize = 64;

/// [`read`] for the answers that are long and often read, in a third of the time. Whatever the fast reader does not like
/// is read again by the one with the better errors.
pub(crate) fn read_fast<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, serde_json::Error> {
    // It unescapes texts in place, so that what it was given is no JSON afterwards.
    simd_json::serde::from_slice(&mut bytes.to_vec()).or_else(|_| read(bytes, what))
}

/// Reads `bytes` as JSON. A field that is not what the API says, such as a state that nobody has heard of, is left out
/// and logged instead of failing the whole: the engine's other answers are still true.
///
/// # Errors
/// That of the answer as it came, if it is no JSON or still wrong without such fields.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, serde_json::Error> {
    let first = match serde_json::from_slice(bytes) {
        Ok(answer) => return Ok(answer),
        Err(error) if error.is_data() => error,
        Err(error) => return Err(error),
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else {
        return Err(first);
    };
    for _ in 0..REPAIRS {
        match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                tracing::debug!(what, path = %error.path(), "left out a field that is not what the API says");
                if !leave_out(&mut value, error.path().iter()) {
                    break;
                }
            }
        }
    }
    Err(first)
}

fn leave_out<'p>(value: &mut Value, path: impl Iterator<Item = &'p Segment>) -> bool {
    let mut segments: Vec<&Segment> =
        path.filter(|segment| matches!(segment, Segment::Map { .. } | Segment::Seq { .. })).collect();
    let Some(last) = segments.pop() else {
        return false;
    };
    let mut place = value;
    for segment in segments {
        let next = match (place, segment) {
            (Value::Object(fields), Segment::Map { key }) => fields.get_mut(key),
            (Value::Array(elements), Segment::Seq { index }) => elements.get_mut(*index),
            _ => None,
        };
        let Some(next) = next else {
            return false;
        };
        place = next;
    }
    match (place, last) {
        (Value::Object(fields), Segment::Map { key }) => fields.remove(key).is_some(),
        (Value::Array(elements), Segment::Seq { index }) if *index < elements.len() => {
            elements.remove(*index);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    enum State {
        Up,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Thing {
        name: String,
        state: Option<State>,
        #[serde(default)]
        sizes: Vec<u8>,
        #[serde(default)]
        by_name: HashMap<String, u8>,
    }

    #[test]
    fn leaves_out_what_it_does_not_understand() {
        let text = br#"[{"name":"a","state":"Sideways","sizes":[1,-2,3],"by_name":{"x":1,"y":"z"}},
            {"name":"b","state":"Up"}]"#;
        let things: Vec<Thing> = read(text, "a test").unwrap();
        let by_name = HashMap::from([("x".to_owned(), 1)]);
        assert_eq!(things.first().unwrap(), &Thing { name: "a".into(), state: None, sizes: vec![1, 3], by_name });
        assert_eq!(things.last().unwrap().state, Some(State::Up));
    }

    #[test]
    fn the_fast_reader_is_as_lenient() {
        for text in
            [r#"[{"name":"\u00e9\n","state":"Up"}]"#, r#"[{"name":"a","state":"Sideways"}]"#, "[]", "[{}]", "[", ""]
        {
            let fast = read_fast::<Vec<Thing>>(text.as_bytes(), "a test");
            assert_eq!(fast.ok(), read(text.as_bytes(), "a test").ok(), "{text}");
        }
        let deep = "[".repeat(1_000_000);
        assert!(read_fast::<Vec<Thing>>(deep.as_bytes(), "a test").is_err());
    }

    #[test]
    fn the_fast_reader_takes_a_list_itself() {
        let mut list = br#"[{"Id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","Names":["/a"],"Image":"b","ImageID":"sha256:0",
            "Command":"c","Created":1795473531,"Ports":[{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}],"Labels":{"x":"y"},
            "State":"created","Status":"Created","HostConfig":{"NetworkMode":"none"},"SizeRw":5,"SizeRootFs":123456789012,
            "NetworkSettings":{"Networks":{"none":{"IPAMConfig":null,"GwPriority":0}}},"Mounts":[]}]"#
            .to_vec();
        let list: Vec<crate::ContainerSummary> = simd_json::serde::from_slice(&mut list).unwrap();
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn does_not_make_up_what_must_be_there() {
        assert!(read::<Thing>(br#"{"name":3}"#, "a test").is_err());
        assert!(read::<Thing>(br#"{"name":"a""#, "a test").is_err());
        assert!(read::<Thing>(b"[]", "a test").is_err());
        assert!(read::<u8>(b"\"x\"", "a test").is_err());
    }
}
