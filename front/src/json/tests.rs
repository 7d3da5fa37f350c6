//! Values come back as they were written; what is wrong is said with its place.

use super::*;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::fmt::Debug;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

fn comes_back<T: ToJson + FromJson + PartialEq + Debug>(value: T, wanted: &str) {
    let written = text(&value);
    assert_eq!(written, wanted);
    assert_eq!(read::<T>(written.as_bytes()).expect("comes back"), value);
}

#[derive(Debug, PartialEq)]
enum Shape {
    Point,
    Circle(u32),
    Line(i32, i32),
    Text { at: u32, said: String },
}

as_json!(enum Shape { Point, Circle(radius), Line(from, to), Text { at, said } });

#[derive(Debug, PartialEq)]
struct Drawing {
    shapes: Vec<Shape>,
    name: Option<String>,
    scale: u32,
}

as_json!(struct Drawing { shapes, name, scale or default });

#[derive(Debug, Default, PartialEq)]
struct Settings {
    width: u32,
    seen: bool,
    passing: u32,
}

as_json!(struct Settings or default { width, seen });

#[test]
fn values_come_back() {
    comes_back(u64::MAX, "18446744073709551615");
    comes_back(-3, "-3");
    comes_back(1.5, "1.5");
    comes_back(1.0, "1.0");
    comes_back(true, "true");
    comes_back("a\"\\\n\t\u{1}é".to_owned(), r#""a\"\\\n\t\u0001é""#);
    comes_back(
        (0..=255).step_by(51).collect::<Vec<u8>>(),
        "\"003366 99ccff\"".replace(' ', "").as_str(),
    );
    comes_back(vec![1u32, 2], "[1,2]");
    comes_back(VecDeque::from([Some(1u64), None]), "[1,null]");
    comes_back([(1u32, "a".to_owned())], r#"[[1,"a"]]"#);
    comes_back(BTreeMap::from([("b".to_owned(), 1u32)]), r#"{"b":1}"#);
    comes_back(HashMap::from([(7usize, true)]), r#"{"7":true}"#);
    comes_back(Duration::MAX, "[18446744073709551615,999999999]");
    comes_back(PathBuf::from("/a b"), r#""/a b""#);
    comes_back(PathBuf::from(OsString::from_vec(vec![47, 255])), "[47,255]");
    comes_back(
        "[::1]:80"
            .parse::<std::net::SocketAddr>()
            .expect("an address"),
        r#""[::1]:80""#,
    );
}

#[test]
fn types_come_back() {
    comes_back(
        Drawing {
            shapes: vec![
                Shape::Point,
                Shape::Circle(3),
                Shape::Line(-1, 2),
                Shape::Text {
                    at: 1,
                    said: "x".to_owned(),
                },
            ],
            name: None,
            scale: 2,
        },
        r#"{"shapes":["Point",{"Circle":[3]},{"Line":[-1,2]},{"Text":{"at":1,"said":"x"}}],"name":null,"scale":2}"#,
    );
    let sparse: Drawing = read(br#"{"shapes":[],"newer":1}"#).expect("what is missing is known");
    assert_eq!(
        sparse,
        Drawing {
            shapes: Vec::new(),
            name: None,
            scale: 0
        }
    );
    let settings: Settings = read(br#"{"seen":true}"#).expect("the rest is by default");
    assert_eq!(
        settings,
        Settings {
            seen: true,
            ..Settings::default()
        }
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let rows = [
        (r#"{"scale":1}"#, "shapes: not there"),
        (
            r#"{"shapes":[{"Circle":["x"]}]}"#,
            "shapes: not a number that is possible here",
        ),
        (
            r#"{"shapes":[{"Line":[1]}]}"#,
            "shapes: not a list of the right length",
        ),
        (
            r#"{"shapes":["Square"]}"#,
            "shapes: not a variant that is known",
        ),
        (r#"{"shapes":[{}]}"#, "shapes: not a variant"),
        (
            r#"{"shapes":[],"scale":-1}"#,
            "scale: not a number that is possible here",
        ),
        (r#"{"shapes":[],"name":3}"#, "name: not a text"),
        ("[]", "not an object"),
        ("{", "EOF while parsing an object at line 1 column 1"),
    ];
    for (text, wanted) in rows {
        let wrong = read::<Drawing>(text.as_bytes()).expect_err(text);
        assert_eq!(wrong.to_string(), wanted, "{text}");
    }
    for text in [r#""0""#, r#""0g""#, r#""é""#] {
        assert!(read::<Vec<u8>>(text.as_bytes()).is_err(), "{text}");
    }
}
