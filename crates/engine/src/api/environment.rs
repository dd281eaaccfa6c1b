//! Environments, which hold passwords more often than not.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Serialize};

/// Environment as `NAME=value`, in the engine's order. Of each only the name prints.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(Vec<String>);

impl Deref for Environment {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl From<Vec<String>> for Environment {
    fn from(variables: Vec<String>) -> Self {
        Self(variables)
    }
}

impl FromIterator<String> for Environment {
    fn from_iter<I: IntoIterator<Item = String>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl<'e> IntoIterator for &'e Environment {
    type Item = &'e String;
    type IntoIter = std::slice::Iter<'e, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<const N: usize> PartialEq<[&str; N]> for Environment {
    fn eq(&self, other: &[&str; N]) -> bool {
        self.0 == other
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without a sign it is a name that is taken out of the environment.
        let masked = |variable: &String| match variable.split_once('=') {
            Some((name, _)) => format!("{name}=***"),
            None => variable.clone(),
        };
        f.debug_list().entries(self.0.iter().map(masked)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_and_not_printed() {
        let environment: Environment = serde_json::from_str(r#"["PASSWORD=marker=1","PATH"]"#).unwrap();
        assert_eq!(environment, ["PASSWORD=marker=1", "PATH"]);
        assert_eq!(format!("{environment:?}"), r#"["PASSWORD=***", "PATH"]"#);
        assert_eq!(serde_json::to_string(&environment).unwrap(), r#"["PASSWORD=marker=1","PATH"]"#);
    }
}
