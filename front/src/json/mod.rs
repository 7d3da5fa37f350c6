//! Values as JSON and back: what goes over the control socket, what the dashboard reads, and what one
//! binary leaves to the next. Pure. [`as_json!`] says which fields a type has there. All text is read
//! as `serde_json::Value` first, so that a type adds a few calls for each field and not a parser of
//! its own: derived by serde, the same types took 500 KiB of the binary.

mod kinds;

use std::fmt;

pub use serde_json::Value;

/// What can be written.
pub trait ToJson {
    fn to_json(&self, to: &mut Writer);

    /// Several of them. Bytes know a shorter way.
    fn several_to_json(several: &[Self], to: &mut Writer)
    where
        Self: Sized,
    {
        to.list(several.iter().map(|item| item as _));
    }
}

/// What can be read.
pub trait FromJson: Sized {
    fn from_json(value: &Value) -> Result<Self, Wrong>;

    /// What [`ToJson::several_to_json`] has written.
    fn several_from_json(value: &Value) -> Result<Vec<Self>, Wrong> {
        let list = value.as_array().ok_or_else(|| Wrong::wanted("a list"))?;
        list.iter().map(Self::from_json).collect()
    }

    /// What it is in an object that does not name it; None: it must be named.
    fn unnamed() -> Option<Self> {
        None
    }
}

/// The text of a value, without a newline.
pub fn text(value: &dyn ToJson) -> String {
    let mut to = Writer::default();
    value.to_json(&mut to);
    to.text
}

/// A value that is written elsewhere, later.
pub fn value(of: &dyn ToJson) -> Value {
    // What has been written can be read.
    parse(text(of).as_bytes()).unwrap_or_default()
}

/// Reads a whole text.
pub fn read<T: FromJson>(text: &[u8]) -> Result<T, Wrong> {
    T::from_json(&parse(text)?)
}

pub fn parse(text: &[u8]) -> Result<Value, Wrong> {
    serde_json::from_slice(text).map_err(|error| Wrong(error.to_string()))
}

/// What is wrong with a value, and where in it.
#[derive(Debug)]
pub struct Wrong(String);

impl Wrong {
    #[cold]
    #[inline(never)]
    pub fn wanted(what: &str) -> Wrong {
        Wrong(format!("not {what}"))
    }

    #[cold]
    #[inline(never)]
    fn within(self, key: &str) -> Wrong {
        Wrong(format!("{key}: {}", self.0))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// JSON that is being written.
#[derive(Default)]
pub struct Writer {
    text: String,
}

impl Writer {
    /// Begins an object or a list, with its first character.
    pub fn open(&mut self, bracket: char) {
        self.text.push(bracket);
    }

    pub fn close(&mut self, bracket: char) {
        self.text.push(bracket);
    }

    fn comma(&mut self) {
        if !self.text.ends_with(['{', '[']) {
            self.text.push(',');
        }
    }

    pub fn key(&mut self, key: &str) {
        self.comma();
        self.string(key);
        self.text.push(':');
    }

    pub fn field(&mut self, key: &str, value: &dyn ToJson) {
        self.key(key);
        value.to_json(self);
    }

    pub fn item(&mut self, value: &dyn ToJson) {
        self.comma();
        value.to_json(self);
    }

    pub fn list<'a>(&mut self, items: impl Iterator<Item = &'a dyn ToJson>) {
        self.open('[');
        for item in items {
            self.item(item);
        }
        self.close(']');
    }

    /// What needs no quotes: numbers, `true`, `null`.
    pub fn bare(&mut self, word: fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = fmt::Write::write_fmt(&mut self.text, word);
    }

    pub fn string(&mut self, text: &str) {
        self.text.push('"');
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
            let (plain, special) = rest.split_at(at);
            self.text.push_str(plain);
            let mut special = special.chars();
            match special.next() {
                Some('\n') => self.text.push_str("\\n"),
                Some('\r') => self.text.push_str("\\r"),
                Some('\t') => self.text.push_str("\\t"),
                Some('\u{8}') => self.text.push_str("\\b"),
                Some('\u{c}') => self.text.push_str("\\f"),
                Some(c @ ('"' | '\\')) => self.text.extend(['\\', c]),
                Some(c) => self.bare(format_args!("\\u{:04x}", u32::from(c))),
                None => {}
            }
            rest = special.as_str();
        }
        self.text.push_str(rest);
        self.text.push('"');
    }
}

/// An object that is being read.
pub struct Object<'a>(&'a serde_json::Map<String, Value>);

impl<'a> Object<'a> {
    pub fn of(value: &'a Value) -> Result<Object<'a>, Wrong> {
        value
            .as_object()
            .map(Object)
            .ok_or_else(|| Wrong::wanted("an object"))
    }

    // These are made for each type: what they have in common is not to be made with them.
    #[inline(never)]
    pub fn field<T: FromJson>(&self, key: &str) -> Result<T, Wrong> {
        match self.named(key) {
            Some(value) => T::from_json(value).map_err(|wrong| wrong.within(key)),
            None => T::unnamed().ok_or_else(|| Wrong::wanted("there").within(key)),
        }
    }

    #[inline(never)]
    pub fn field_or<T: FromJson>(&self, key: &str, unnamed: T) -> Result<T, Wrong> {
        match self.named(key) {
            Some(value) => T::from_json(value).map_err(|wrong| wrong.within(key)),
            None => Ok(unnamed),
        }
    }

    #[inline(never)]
    fn named(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key)
    }
}

/// The variant of an enum, as `"Name"` or `{"Name": ...}`, and what it holds.
pub fn variant(value: &Value) -> Result<(&str, &Value), Wrong> {
    match value {
        Value::String(name) => Ok((name, &Value::Null)),
        Value::Object(map) if map.len() == 1 => {
            let held = map.iter().next().map(|(name, held)| (name.as_str(), held));
            held.ok_or_else(|| Wrong::wanted("a variant"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(Wrong::wanted("a variant"))
        }
    }
}

/// Exactly `N` values in a list.
pub fn items<const N: usize>(value: &Value) -> Result<&[Value; N], Wrong> {
    let items = value
        .as_array()
        .and_then(|list| list.as_slice().try_into().ok());
    items.ok_or_else(|| Wrong::wanted("a list of the right length"))
}

/// Which fields a type has as JSON. `to struct` writes only, `from struct` reads only, else both; `enum` always
/// both. A field `or default` may be missing; with `or default` behind the name of the type any may, and those
/// that are not listed stay as they are by default. `as "type"` names a field otherwise than Rust can.
///
/// ```
/// use front::as_json;
/// #[derive(Default)]
/// struct Figures { count: u32, name: Option<String>, grown: bool }
/// as_json!(struct Figures { count, name, grown or default });
/// let figures: Figures = front::json::read(br#"{"count":3}"#).unwrap_or_default();
/// assert_eq!(front::json::text(&figures), r#"{"count":3,"name":null,"grown":false}"#);
/// ```
#[macro_export]
macro_rules! as_json {
    (to struct $name:ident $(<$life:lifetime>)? {
        $($field:ident $(or $default:ident)? $(as $key:literal)?),* $(,)?
    }) => {
        impl $(<$life>)? $crate::json::ToJson for $name $(<$life>)? {
            fn to_json(&self, to: &mut $crate::json::Writer) {
                to.open('{');
                $(to.field($crate::as_json!(@key $field $($key)?), &self.$field);)*
                to.close('}');
            }
        }
    };
    (from struct $name:ident { $($field:ident $(or $default:ident)?),* $(,)? }) => {
        impl $crate::json::FromJson for $name {
            fn from_json(value: &$crate::json::Value) -> Result<Self, $crate::json::Wrong> {
                let object = $crate::json::Object::of(value)?;
                Ok($name { $($field: $crate::as_json!(@read object, $field $($default)?)),* })
            }
        }
    };
    (struct $name:ident or default { $($field:ident),* $(,)? }) => {
        $crate::as_json!(to struct $name { $($field),* });
        impl $crate::json::FromJson for $name {
            fn from_json(value: &$crate::json::Value) -> Result<Self, $crate::json::Wrong> {
                let object = $crate::json::Object::of(value)?;
                let mut read = $name::default();
                $(read.$field = object.field_or(stringify!($field), read.$field)?;)*
                Ok(read)
            }
        }
    };
    (struct $name:ident { $($fields:tt)* }) => {
        $crate::as_json!(to struct $name { $($fields)* });
        $crate::as_json!(from struct $name { $($fields)* });
    };
    // As what it holds.
    (struct $name:ident(_)) => {
        impl $crate::json::ToJson for $name {
            fn to_json(&self, to: &mut $crate::json::Writer) {
                self.0.to_json(to);
            }
        }
        impl $crate::json::FromJson for $name {
            fn from_json(value: &$crate::json::Value) -> Result<Self, $crate::json::Wrong> {
                $crate::json::FromJson::from_json(value).map($name)
            }
        }
    };
    (enum $name:ident {
        $($variant:ident $(($($item:ident),*))? $({ $($field:ident),* })?),* $(,)?
    }) => {
        impl $crate::json::ToJson for $name {
            fn to_json(&self, to: &mut $crate::json::Writer) {
                match self {
                    $($name::$variant $(($($item),*))? $({ $($field),* })? => {
                        $crate::as_json!(@write to, $variant $(($($item),*))? $({ $($field),* })?)
                    })*
                }
            }
        }
        impl $crate::json::FromJson for $name {
            fn from_json(value: &$crate::json::Value) -> Result<Self, $crate::json::Wrong> {
                let (name, held) = $crate::json::variant(value)?;
                match name {
                    $(stringify!($variant) => {
                        $crate::as_json!(@hold held, $name $variant $(($($item),*))? $({ $($field),* })?)
                    })*
                    _ => Err($crate::json::Wrong::wanted("a variant that is known")),
                }
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@read $object:ident, $field:ident) => { $object.field(stringify!($field))? };
    (@read $object:ident, $field:ident $default:ident) => {
        $object.field_or(stringify!($field), Default::default())?
    };
    (@write $to:ident, $variant:ident) => { $to.string(stringify!($variant)) };
    (@write $to:ident, $variant:ident($($item:ident),*)) => {{
        $to.open('{');
        $to.key(stringify!($variant));
        $to.open('[');
        $($to.item($item);)*
        $to.close(']');
        $to.close('}');
    }};
    (@write $to:ident, $variant:ident { $($field:ident),* }) => {{
        $to.open('{');
        $to.key(stringify!($variant));
        $to.open('{');
        $($to.field(stringify!($field), $field);)*
        $to.close('}');
        $to.close('}');
    }};
    (@hold $held:ident, $name:ident $variant:ident) => {{
        let _ = $held;
        Ok($name::$variant)
    }};
    (@hold $held:ident, $name:ident $variant:ident($($item:ident),*)) => {{
        let [$($item),*] = $crate::json::items($held)?;
        Ok($name::$variant($($crate::json::FromJson::from_json($item)?),*))
    }};
    (@hold $held:ident, $name:ident $variant:ident { $($field:ident),* }) => {{
        let object = $crate::json::Object::of($held)?;
        Ok($name::$variant { $($field: object.field(stringify!($field))?),* })
    }};
}

#[cfg(test)]
mod tests;
