use super::*;
use crate::http::head::fields;

#[test]
fn smoke() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: timeout=5\r\n\r\n";
    let mut storage = fields();
    let response = read_response(head, &mut storage, &HeadLimits::default(), Asked::default())
        .expect("acceptable")
        .expect("complete");
    let mut out = Vec::new();
    response.write_for_client(
        &mut out,
        &Delivery {
            version: Version::Http11,
            close: false,
            head: false,
            date: Some(Date::from_unix_secs(0)),
        },
    );
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nVia: 1.1 sidekeeper\r\n\r\n"
    );
}
