//! Readers of fields that do not say in the plainest way what is wanted of them.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::PortBinding;

/// A list of words, which old engines and Podman also write as one text.
pub(crate) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Words::Many(words)) => words,
        Some(Words::One(word)) if !word.is_empty() => vec![word],
        _ => Vec::new(),
    })
}

/// The keys of an object whose values say nothing, such as `ExposedPorts`.
pub(crate) fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let map: Option<BTreeMap<String, IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

/// The names alone of the networks in a list, where their addresses would be most of the work of reading it.
pub(super) fn network_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Settings {
        networks: Option<Names>,
    }
    struct Names(Vec<String>);
    impl<'de> Deserialize<'de> for Names {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Map;
            impl<'de> Visitor<'de> for Map {
                type Value = Names;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("networks by name")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                    let mut names = Vec::new();
                    while let Some((name, IgnoredAny)) = map.next_entry()? {
                        names.push(name);
                    }
                    Ok(Names(names))
                }
            }
            deserializer.deserialize_map(Map)
        }
    }
    let settings: Option<Settings> = Option::deserialize(deserializer)?;
    let mut names = settings.and_then(|settings| settings.networks).map_or_else(Vec::new, |names| names.0);
    names.sort_unstable();
    Ok(names)
}

/// Bindings by port; a port that is exposed and not published is null there.
pub(super) fn bindings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<PortBinding>>, D::Error> {
    let map: Option<BTreeMap<String, Option<Vec<PortBinding>>>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_iter().map(|(port, list)| (port, list.unwrap_or_default())).collect())
}
