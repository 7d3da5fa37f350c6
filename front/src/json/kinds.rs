//! What numbers, texts, times, lists and tables are as JSON.

use super::{FromJson, ToJson, Value, Writer, Wrong, items};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::fmt::Display;
use std::hash::Hash;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

macro_rules! numbers {
    ($($number:ident)*) => {$(
        impl ToJson for $number {
            fn to_json(&self, to: &mut Writer) {
                to.bare(format_args!("{self}"));
            }
        }
        impl FromJson for $number {
            fn from_json(value: &Value) -> Result<$number, Wrong> {
                let number = value.as_i64().and_then(|number| $number::try_from(number).ok());
                number.ok_or_else(|| Wrong::wanted("a number that is possible here"))
            }
        }
    )*};
}
numbers!(u16 u32 usize i32);

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Several of them are a text of hexadecimal digits.
impl ToJson for u8 {
    fn to_json(&self, to: &mut Writer) {
        to.bare(format_args!("{self}"));
    }

    fn several_to_json(bytes: &[u8], to: &mut Writer) {
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
        to.open('"');
        for byte in bytes {
            to.open(digit(byte >> 4));
            to.open(digit(*byte));
        }
        to.close('"');
    }
}

impl FromJson for u8 {
    fn from_json(value: &Value) -> Result<u8, Wrong> {
        let number = u16::from_json(value)?;
        u8::try_from(number).map_err(|_| Wrong::wanted("a byte"))
    }

    fn several_from_json(value: &Value) -> Result<Vec<u8>, Wrong> {
        let value_of = |digit: u8| char::from(digit).to_digit(16);
        let pairs = text_of(value)?.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| match pair {
            [high, low] => u8::try_from(value_of(*high)? << 4 | value_of(*low)?).ok(),
            _ => None,
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        bytes.ok_or_else(|| Wrong::wanted("hexadecimal"))
    }
}

impl ToJson for u64 {
    fn to_json(&self, to: &mut Writer) {
        to.bare(format_args!("{self}"));
    }
}

impl FromJson for u64 {
    fn from_json(value: &Value) -> Result<u64, Wrong> {
        value.as_u64().ok_or_else(|| Wrong::wanted("a number"))
    }
}

impl ToJson for AtomicU64 {
    fn to_json(&self, to: &mut Writer) {
        self.load(Relaxed).to_json(to);
    }
}

impl FromJson for AtomicU64 {
    fn from_json(value: &Value) -> Result<AtomicU64, Wrong> {
        u64::from_json(value).map(AtomicU64::new)
    }
}

macro_rules! floats {
    ($($float:ident)*) => {$(
        impl ToJson for $float {
            fn to_json(&self, to: &mut Writer) {
                if self.is_finite() {
                    to.bare(format_args!("{self:?}"));
                } else {
                    to.bare(format_args!("null"));
                }
            }
        }
    )*};
}
floats!(f32 f64);

impl FromJson for f64 {
    fn from_json(value: &Value) -> Result<f64, Wrong> {
        value.as_f64().ok_or_else(|| Wrong::wanted("a number"))
    }
}

impl ToJson for bool {
    fn to_json(&self, to: &mut Writer) {
        to.bare(format_args!("{self}"));
    }
}

impl FromJson for bool {
    fn from_json(value: &Value) -> Result<bool, Wrong> {
        value
            .as_bool()
            .ok_or_else(|| Wrong::wanted("true or false"))
    }
}

impl ToJson for str {
    fn to_json(&self, to: &mut Writer) {
        to.string(self);
    }
}

impl ToJson for String {
    fn to_json(&self, to: &mut Writer) {
        to.string(self);
    }
}

impl FromJson for String {
    fn from_json(value: &Value) -> Result<String, Wrong> {
        text_of(value).map(str::to_owned)
    }
}

fn text_of(value: &Value) -> Result<&str, Wrong> {
    value.as_str().ok_or_else(|| Wrong::wanted("a text"))
}

/// As text; one that is no UTF-8 as its bytes in a list.
impl ToJson for Path {
    fn to_json(&self, to: &mut Writer) {
        match self.to_str() {
            Some(text) => to.string(text),
            None => to.list(self.as_os_str().as_bytes().iter().map(|byte| byte as _)),
        }
    }
}

impl ToJson for PathBuf {
    fn to_json(&self, to: &mut Writer) {
        self.as_path().to_json(to);
    }
}

impl FromJson for PathBuf {
    fn from_json(value: &Value) -> Result<PathBuf, Wrong> {
        match value {
            Value::Array(bytes) => {
                let bytes: Result<_, _> = bytes.iter().map(u8::from_json).collect();
                Ok(OsString::from_vec(bytes?).into())
            }
            other => text_of(other).map(PathBuf::from),
        }
    }
}

/// Whole seconds, and the nanoseconds above them.
impl ToJson for Duration {
    fn to_json(&self, to: &mut Writer) {
        (self.as_secs(), self.subsec_nanos()).to_json(to);
    }
}

impl FromJson for Duration {
    fn from_json(value: &Value) -> Result<Duration, Wrong> {
        let (seconds, nanos): (u64, u32) = FromJson::from_json(value)?;
        // More nanoseconds than a second has would carry over, and perhaps too far.
        Ok(Duration::new(seconds, nanos.min(999_999_999)))
    }
}

/// The time since 1970; what was before is 1970.
impl ToJson for SystemTime {
    fn to_json(&self, to: &mut Writer) {
        let since = self.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().to_json(to);
    }
}

impl FromJson for SystemTime {
    fn from_json(value: &Value) -> Result<SystemTime, Wrong> {
        let since = Duration::from_json(value)?;
        let at = SystemTime::UNIX_EPOCH.checked_add(since);
        at.ok_or_else(|| Wrong::wanted("a time"))
    }
}

impl ToJson for SocketAddr {
    fn to_json(&self, to: &mut Writer) {
        to.bare(format_args!("\"{self}\""));
    }
}

impl FromJson for SocketAddr {
    fn from_json(value: &Value) -> Result<SocketAddr, Wrong> {
        let address = text_of(value)?.parse();
        address.map_err(|_| Wrong::wanted("an address"))
    }
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn to_json(&self, to: &mut Writer) {
        (**self).to_json(to);
    }
}

impl<T: ToJson + ?Sized> ToJson for Box<T> {
    fn to_json(&self, to: &mut Writer) {
        (**self).to_json(to);
    }
}

impl<T: FromJson> FromJson for Box<T> {
    fn from_json(value: &Value) -> Result<Box<T>, Wrong> {
        T::from_json(value).map(Box::new)
    }
}

impl<T: ToJson + ?Sized> ToJson for Arc<T> {
    fn to_json(&self, to: &mut Writer) {
        (**self).to_json(to);
    }
}

impl<T: FromJson> FromJson for Arc<T> {
    fn from_json(value: &Value) -> Result<Arc<T>, Wrong> {
        T::from_json(value).map(Arc::new)
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self, to: &mut Writer) {
        match self {
            Some(value) => value.to_json(to),
            None => to.bare(format_args!("null")),
        }
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(value: &Value) -> Result<Option<T>, Wrong> {
        if value.is_null() {
            return Ok(None);
        }
        T::from_json(value).map(Some)
    }

    fn unnamed() -> Option<Option<T>> {
        Some(None)
    }
}

impl<A: ToJson, B: ToJson> ToJson for (A, B) {
    fn to_json(&self, to: &mut Writer) {
        to.list([&self.0 as &dyn ToJson, &self.1].into_iter());
    }
}

impl<A: FromJson, B: FromJson> FromJson for (A, B) {
    fn from_json(value: &Value) -> Result<(A, B), Wrong> {
        let [first, second] = items(value)?;
        Ok((A::from_json(first)?, B::from_json(second)?))
    }
}

macro_rules! lists {
    ($($list:ident)*) => {$(
        impl<T: ToJson> ToJson for $list<T> {
            fn to_json(&self, to: &mut Writer) {
                to.list(self.iter().map(|item| item as _));
            }
        }
    )*};
}
lists!(VecDeque BTreeSet);

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self, to: &mut Writer) {
        T::several_to_json(self, to);
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: &Value) -> Result<Vec<T>, Wrong> {
        T::several_from_json(value)
    }
}

impl ToJson for Box<[u8]> {
    fn to_json(&self, to: &mut Writer) {
        u8::several_to_json(self, to);
    }
}

impl FromJson for Box<[u8]> {
    fn from_json(value: &Value) -> Result<Box<[u8]>, Wrong> {
        u8::several_from_json(value).map(Vec::into_boxed_slice)
    }
}

impl<T: FromJson> FromJson for VecDeque<T> {
    fn from_json(value: &Value) -> Result<VecDeque<T>, Wrong> {
        Vec::from_json(value).map(VecDeque::from)
    }
}

impl<T: FromJson + Ord> FromJson for BTreeSet<T> {
    fn from_json(value: &Value) -> Result<BTreeSet<T>, Wrong> {
        // One by one: `collect` would bring a sort for each type.
        let mut set = BTreeSet::new();
        set.extend(Vec::from_json(value)?);
        Ok(set)
    }
}

impl<T: ToJson, const N: usize> ToJson for [T; N] {
    fn to_json(&self, to: &mut Writer) {
        to.list(self.iter().map(|item| item as _));
    }
}

impl<T: FromJson, const N: usize> FromJson for [T; N] {
    fn from_json(value: &Value) -> Result<[T; N], Wrong> {
        let list = Vec::from_json(value)?;
        let array = list.try_into();
        array.map_err(|_| Wrong::wanted("a list of the right length"))
    }
}

fn table<'a>(to: &mut Writer, rows: impl Iterator<Item = (&'a dyn Display, &'a dyn ToJson)>) {
    to.open('{');
    for (key, value) in rows {
        to.field(&key.to_string(), value);
    }
    to.close('}');
}

fn rows<K: FromStr, V: FromJson, T: Default + Extend<(K, V)>>(value: &Value) -> Result<T, Wrong> {
    let map = value
        .as_object()
        .ok_or_else(|| Wrong::wanted("an object"))?;
    let mut table = T::default();
    for (key, value) in map {
        let key = key.parse().map_err(|_| Wrong::wanted("such a key"))?;
        table.extend([(key, V::from_json(value)?)]);
    }
    Ok(table)
}

impl<V: ToJson> ToJson for BTreeMap<String, V> {
    fn to_json(&self, to: &mut Writer) {
        table(to, self.iter().map(|(key, value)| (key as _, value as _)));
    }
}

impl<V: FromJson> FromJson for BTreeMap<String, V> {
    fn from_json(value: &Value) -> Result<BTreeMap<String, V>, Wrong> {
        rows(value)
    }
}

impl<K: Display, V: ToJson> ToJson for HashMap<K, V> {
    fn to_json(&self, to: &mut Writer) {
        table(to, self.iter().map(|(key, value)| (key as _, value as _)));
    }
}

impl<K: FromStr + Hash + Eq, V: FromJson> FromJson for HashMap<K, V> {
    fn from_json(value: &Value) -> Result<HashMap<K, V>, Wrong> {
        rows(value)
    }
}

impl ToJson for Value {
    fn to_json(&self, to: &mut Writer) {
        match self {
            Value::Null => to.bare(format_args!("null")),
            Value::Bool(value) => value.to_json(to),
            Value::Number(number) => to.bare(format_args!("{number}")),
            Value::String(text) => to.string(text),
            Value::Array(items) => items.to_json(to),
            Value::Object(map) => table(to, map.iter().map(|(key, value)| (key as _, value as _))),
        }
    }
}

impl FromJson for Value {
    fn from_json(value: &Value) -> Result<Value, Wrong> {
        Ok(value.clone())
    }
}
