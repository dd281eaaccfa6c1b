//! Changing one field of a JSON object and no other byte of its text.

use std::{fmt, ops::Range};

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

/// The text of a JSON object, and where its fields are.
pub(super) struct ObjectText<'a> {
    text: &'a str,
    /// Right behind the brace that opens it.
    inside: usize,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    /// Where the value before it ends, or the object begins.
    from: usize,
    value: Range<usize>,
}

impl<'a> ObjectText<'a> {
    /// Reads it. An empty text is an empty object, as for `docker`.
    pub(super) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        if text.trim_ascii().is_empty() {
            return Ok(Self { text: "{}", inside: 1, fields: Vec::new() });
        }
        let Values(values) = serde_json::from_str(text)?;
        let inside = text.find('{').map_or(0, |at| at + 1);
        let mut fields = Vec::with_capacity(values.len());
        let mut from = inside;
        for (name, value) in values {
            // A value that is borrowed lies in the text.
            let start = value.get().as_ptr().addr().saturating_sub(text.as_ptr().addr());
            let value = start..start + value.get().len();
            fields.push(Field { name, from, value: value.clone() });
            from = value.end;
        }
        Ok(Self { text, inside, fields })
    }

    /// The text of a field's value.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        // Of two values, the last counts.
        self.text.get(self.fields.iter().rev().find(|field| is(field, name))?.value.clone())
    }

    /// With this value in the field, which is added behind the others if it is not there.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        if let Some(field) = self.fields.iter().rev().find(|field| is(field, name)) {
            return self.spliced(field.value.clone(), value);
        }
        let name = serde_json::Value::from(name).to_string();
        let Some(last) = self.fields.last() else {
            let end = self.text.rfind('}').unwrap_or(self.text.len());
            return self.spliced(self.inside..end, &format!("\n\t{name}: {value}\n"));
        };
        // Spaced as its neighbour is.
        let before = self.text.get(last.from..last.value.start).unwrap_or_default();
        let space = before.split('"').next().and_then(|space| space.rsplit(',').next()).unwrap_or_default();
        let colon = before.rsplit('"').next().unwrap_or(": ");
        self.spliced(last.value.end..last.value.end, &format!(",{space}{name}{colon}{value}"))
    }

    /// Without the field.
    pub(super) fn without(&self, name: &str) -> String {
        let Some(last) = self.fields.last() else { return self.text.to_owned() };
        let part = |range: Range<usize>| self.text.get(range).unwrap_or_default();
        let mut text = part(0..self.inside).to_owned();
        let stay = self.fields.iter().enumerate().filter(|(_, field)| !is(field, name));
        for (number, (index, field)) in stay.enumerate() {
            let field = part(field.from..field.value.end);
            // The comma before the first goes with those that were before it.
            let comma = field.find(',').filter(|_| number == 0 && index > 0).map_or(0, |at| at + 1);
            text.push_str(field.get(comma..).unwrap_or_default());
        }
        text.push_str(part(last.value.end..self.text.len()));
        text
    }

    fn spliced(&self, range: Range<usize>, with: &str) -> String {
        let mut text = self.text.to_owned();
        text.replace_range(range, with);
        text
    }
}

/// `docker` does not tell small letters from capitals in names of fields.
fn is(field: &Field, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}

struct Values<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Values<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Values<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Values<'de>, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = map.next_entry::<String, &'de RawValue>()? {
                    values.push(value);
                }
                Ok(Values(values))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::ObjectText;

    fn with(text: &str) -> String {
        ObjectText::parse(text).unwrap().with("currentContext", "\"berth\"")
    }

    fn without(text: &str) -> String {
        ObjectText::parse(text).unwrap().without("currentContext")
    }

    #[test]
    fn a_field_that_is_added_is_spaced_as_its_neighbour_and_comes_off_without_a_trace() {
        for (before, after) in [
            (
                "{\n\t\"auths\": {\n\t\t\"a\": {}\n\t},\n\t\"x\": 1.50\n}\n",
                "{\n\t\"auths\": {\n\t\t\"a\": {}\n\t},\n\t\"x\": 1.50,\n\t\"currentContext\": \"berth\"\n}\n",
            ),
            ("{\n  \"a\" : 1\n}", "{\n  \"a\" : 1,\n  \"currentContext\" : \"berth\"\n}"),
            (r#"{"a":1,"b":"}{\","}"#, r#"{"a":1,"b":"}{\",","currentContext":"berth"}"#),
            (r#"{"a":1 , "b":[2]}"#, r#"{"a":1 , "b":[2], "currentContext":"berth"}"#),
        ] {
            assert_eq!(with(before), after);
            assert_eq!(without(after), before);
        }
        assert_eq!(with("{}"), "{\n\t\"currentContext\": \"berth\"\n}");
        assert_eq!(with(" \n"), "{\n\t\"currentContext\": \"berth\"\n}");
        assert_eq!(without("{\n\t\"currentContext\": \"berth\"\n}"), "{\n}");
    }

    #[test]
    fn a_field_that_is_there_changes_in_its_place_whatever_its_case() {
        assert_eq!(with(r#"{"CurrentContext" : "x", "b": 1e2}"#), r#"{"CurrentContext" : "berth", "b": 1e2}"#);
        assert_eq!(
            with(r#"{"currentContext":"one","currentContext":"two"}"#),
            r#"{"currentContext":"one","currentContext":"berth"}"#,
        );
        let text = r#"{"currentContext":"one","currentcontext":"two"}"#;
        assert_eq!(ObjectText::parse(text).unwrap().get("currentContext"), Some("\"two\""));
    }

    #[test]
    fn wherever_the_field_is_what_stays_is_an_object() {
        for (before, after) in [
            (r#"{"currentContext":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{ "currentContext" : 1 , "a" : 2 }"#, r#"{ "a" : 2 }"#),
            (r#"{"a":2,"currentContext":1,"b":3}"#, r#"{"a":2,"b":3}"#),
            (r#"{"currentContext":1,"currentContext":2,"b":3}"#, r#"{"b":3}"#),
            (r#"{"currentContext":1,"b":3,"currentContext":2}"#, r#"{"b":3}"#),
            (r#"{"currentContext":1,"currentContext":2}"#, "{}"),
            (r#"{"a":"currentContext"}"#, r#"{"a":"currentContext"}"#),
        ] {
            assert_eq!(without(before), after);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "null", "{", "{\"a\":1}x", "1", "\u{feff}{}"] {
            assert!(ObjectText::parse(text).is_err(), "{text}");
        }
    }
}
