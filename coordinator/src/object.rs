//! A JSON object and nothing else: what serde derives for a struct reads an array of its values too.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Reads `T` from an object alone.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Named {
        name: String,
    }

    #[track_caller]
    fn check(json: &str, want: Result<&str, &str>) {
        let got = serde_json::from_str::<Object<Named>>(json);
        let got = got.map(|Object(named)| named.name).map_err(|error| error.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), want, "{json}");
    }

    #[test]
    fn an_array_of_an_objects_values_is_no_object() {
        assert!(serde_json::from_str::<Named>(r#"["a"]"#).is_ok(), "what this is for");
        check(r#" {"name":"a","other":[1]} "#, Ok("a"));
        let sequence = "invalid type: sequence, expected a JSON object at line 1 column 0";
        check(r#"["a"]"#, Err(sequence));
        check("7", Err("invalid type: integer `7`, expected a JSON object at line 1 column 1"));
        check("{}", Err("missing field `name` at line 1 column 2"));
    }
}
