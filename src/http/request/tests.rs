use super::*;
use crate::http::head::fields;

#[test]
fn smoke() {
    let head = b"GET /a?sid=x HTTP/1.1\r\nHost: h\r\nCookie: a=b; c=d\r\nX-Forwarded-For: 1\r\nConnection: close, foo\r\nFoo: 1\r\n\r\n";
    let mut storage = fields();
    let request = read_request(head, &mut storage, &HeadLimits::default())
        .expect("acceptable")
        .expect("complete");
    assert_eq!(request.cookie("c"), Some("d"));
    let mut out = Vec::new();
    request.write_for_worker(
        &mut out,
        &ClientSide {
            address: Some(([127, 0, 0, 1], 80).into()),
            scheme: "http",
        },
    );
    assert_eq!(
        String::from_utf8_lossy(&out),
        "GET /a?sid=x HTTP/1.1\r\nHost: h\r\nCookie: a=b; c=d\r\nX-Forwarded-For: 127.0.0.1\r\n\
         X-Sidekeeper-Client: 127.0.0.1 80\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\
         Via: 1.1 sidekeeper\r\n\r\n"
    );
}
