//! Tables of chunked bodies. Each is decoded whole, byte by byte and in all splits in two, and must
//! come out the same.

use super::*;

/// Decodes pieces one after the other; gives the payload, the bytes used and whether it ended.
fn decode(pieces: &[&[u8]], from: Framing) -> Result<(Vec<u8>, usize, bool), Malformed> {
    let mut decoder = Decoder::new(from);
    let (mut out, mut used) = (Vec::new(), 0);
    for piece in pieces {
        used += transfer(&mut decoder, Framing::UntilClose, piece, &mut out)?;
    }
    Ok((out, used, decoder.is_done()))
}

fn every_split(body: &[u8], from: Framing) -> Result<(Vec<u8>, usize, bool), Malformed> {
    let whole = decode(&[body], from);
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(
        decode(&bytes, from),
        whole,
        "byte by byte: {}",
        body.escape_ascii()
    );
    for at in (0..=body.len()).step_by(body.len() / 100 + 1) {
        let (first, second) = body.split_at(at);
        assert_eq!(
            decode(&[first, second], from),
            whole,
            "{at}: {}",
            body.escape_ascii()
        );
    }
    whole
}

/// RFC 9112 7.1.
#[rustfmt::skip]
#[test]
fn chunks_that_are_read() {
    for (name, body, payload, behind) in [
        ("nothing", &b"0\r\n\r\n"[..], &b""[..], 0),
        ("one chunk", b"5\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        ("two chunks", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", 0),
        ("lower case", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", 0),
        ("upper case", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", 0),
        ("zeros before", b"00005\r\nhello\r\n000\r\n\r\n", b"hello", 0),
        ("sixteen digits", b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        ("CRLF as payload", b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", 0),
        ("a last chunk as payload", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", 0),
        ("the next request behind", b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n", b"a", 16),
        ("a CRLF behind", b"0\r\n\r\n\r\n", b"", 2),
        // RFC 9112 7.1.1: extensions are checked and dropped.
        ("extension", b"1;a\r\nx\r\n0\r\n\r\n", b"x", 0),
        ("extension with a value", b"1;a=b\r\nx\r\n0;c=d\r\n\r\n", b"x", 0),
        ("two extensions", b"1;a=b;c\r\nx\r\n0\r\n\r\n", b"x", 0),
        ("quoted value", b"1;a=\"b;\\\"\t\xff c\"\r\nx\r\n0\r\n\r\n", b"x", 0),
        ("empty quoted value", b"1;a=\"\"\r\nx\r\n0\r\n\r\n", b"x", 0),
        ("blanks that are allowed", b"1 \t; a\t= b ; c = \"d\" ;e\r\nx\r\n0\r\n\r\n", b"x", 0),
        // RFC 9112 7.1.2, RFC 9110 6.5: trailers are checked and dropped.
        ("trailer", b"0\r\nA: b\r\n\r\n", b"", 0),
        ("two trailers", b"1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", b"x", 0),
        ("forbidden trailers", b"0\r\nHost: i\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 1\r\n\r\nrest", b"", 4),
        ("tabs and bytes above ASCII in a trailer", b"0\r\nA:\t\xff \r\n\r\n", b"", 0),
    ] {
        let wanted = (payload.to_vec(), body.len() - behind, true);
        assert_eq!(every_split(body, Framing::Chunked), Ok(wanted), "{name}");
    }
}

#[rustfmt::skip]
#[test]
fn chunks_that_are_refused() {
    for (name, body, fault) in [
        ("no size", &b"\r\nx"[..], Malformed::Size),
        ("plus", b"+5\r\nhello\r\n", Malformed::Size),
        ("minus", b"-5\r\nhello\r\n", Malformed::Size),
        ("minus zero", b"-0\r\n\r\n", Malformed::Size),
        ("0x", b"0x5\r\nhello\r\n", Malformed::Size),
        ("blank before", b" 5\r\nhello\r\n", Malformed::Size),
        ("tab before", b"\t5\r\nhello\r\n", Malformed::Size),
        ("blank behind", b"5 \r\nhello\r\n", Malformed::Extension),
        ("a letter", b"g\r\nhello\r\n", Malformed::Size),
        ("a letter behind", b"5h\r\nhello\r\n", Malformed::Size),
        ("underscore", b"1_0\r\nhello\r\n", Malformed::Size),
        ("comma", b"5,5\r\nhello\r\n", Malformed::Size),
        ("point", b"5.0\r\nhello\r\n", Malformed::Size),
        ("quotes", b"\"5\"\r\nhello\r\n", Malformed::Size),
        ("NUL", b"5\0\r\nhello\r\n", Malformed::Size),
        ("NUL before", b"\x005\r\nhello\r\n", Malformed::Size),
        ("a byte above ASCII", b"5\xb2\r\nhello\r\n", Malformed::Size),
        ("seventeen digits", b"00000000000000005\r\nhello\r\n", Malformed::SizeTooLarge),
        ("64 bits", b"ffffffffffffffff\r\nhello\r\n", Malformed::SizeTooLarge),
        ("63 bits and one", b"8000000000000000\r\nhello\r\n", Malformed::SizeTooLarge),
        ("64 bits and five", b"10000000000000005\r\nhello\r\n", Malformed::SizeTooLarge),
        ("32 bits beyond 64", b"100000000000000000000005\r\nhello\r\n", Malformed::SizeTooLarge),
        ("LF after the size", b"5\nhello\r\n0\r\n\r\n", Malformed::LineEnd),
        ("CR alone after the size", b"5\rhello\r\n", Malformed::LineEnd),
        ("CR CR LF after the size", b"5\r\r\nhello\r\n", Malformed::LineEnd),
        ("LF after the payload", b"5\r\nhello\n0\r\n\r\n", Malformed::LineEnd),
        ("nothing after the payload", b"5\r\nhello0\r\n\r\n", Malformed::LineEnd),
        ("two bytes for the CRLF", b"5\r\nhelloXX0\r\n\r\n", Malformed::LineEnd),
        ("CR x after the payload", b"5\r\nhello\rX0\r\n\r\n", Malformed::LineEnd),
        ("payload too long", b"5\r\nhello!\r\n0\r\n\r\n", Malformed::LineEnd),
        ("payload too short", b"5\r\nhell\r\n0\r\n\r\n", Malformed::LineEnd),
        ("LF after the last chunk", b"0\n\r\n", Malformed::LineEnd),
        ("LF as the last line", b"0\r\n\n", Malformed::LineEnd),
        ("CR x as the last line", b"0\r\n\rX", Malformed::LineEnd),
        ("a request for the last line", b"0\r\nGET / HTTP/1.1\r\n", Malformed::Trailer),
        ("extension without a name", b"5;\r\nhello\r\n", Malformed::Extension),
        ("extension without a value", b"5;a=\r\nhello\r\n", Malformed::Extension),
        ("extension with LF", b"5;a\nhello\r\n", Malformed::LineEnd),
        ("extension with LF in quotes", b"5;a=\"\n\"\r\nhello\r\n", Malformed::LineEnd),
        ("extension with CR in quotes", b"5;a=\"\r\n\"\r\nhello\r\n", Malformed::Extension),
        ("extension with CR escaped", b"5;a=\"\\\r\n\"\r\nhello\r\n", Malformed::Extension),
        ("extension with a blank behind", b"5;a \r\nhello\r\n", Malformed::Extension),
        ("extension with NUL", b"5;a\0\r\nhello\r\n", Malformed::Extension),
        ("extension with a second value", b"5;a=b=c\r\nhello\r\n", Malformed::Extension),
        ("extension with a word behind quotes", b"5;a=\"b\"c\r\nhello\r\n", Malformed::Extension),
        ("extension without semicolon", b"5 a\r\nhello\r\n", Malformed::Extension),
        ("extension with CR alone", b"5;a\rb\r\nhello\r\n", Malformed::LineEnd),
        ("trailer without colon", b"0\r\nA\r\n\r\n", Malformed::Trailer),
        ("trailer without name", b"0\r\n: b\r\n\r\n", Malformed::Trailer),
        ("trailer with a blank in its name", b"0\r\nA b: c\r\n\r\n", Malformed::Trailer),
        ("trailer with a blank before the colon", b"0\r\nA : b\r\n\r\n", Malformed::Trailer),
        ("trailer folded", b"0\r\nA: b\r\n c\r\n\r\n", Malformed::Trailer),
        ("trailer with LF", b"0\r\nA: b\n\r\n", Malformed::LineEnd),
        ("trailer with CR", b"0\r\nA: b\rc\r\n\r\n", Malformed::LineEnd),
        ("trailer with NUL", b"0\r\nA: \0\r\n\r\n", Malformed::Trailer),
    ] {
        assert_eq!(every_split(body, Framing::Chunked), Err(fault), "{name}");
        assert!(!fault.reason().is_empty());
    }
}

/// RFC 9112 8: a message is incomplete until its last byte.
#[test]
fn no_prefix_is_complete() {
    let body = b"5;a=\"b\"\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for len in 0..body.len() {
        let (_, used, done) = every_split(&body[..len], Framing::Chunked).expect("no fault");
        assert_eq!((used, done), (len, false));
    }
    assert!(every_split(body, Framing::Chunked).expect("no fault").2);
}

#[test]
fn floods_are_refused() {
    let fault = |body: String| every_split(body.as_bytes(), Framing::Chunked).map(|_| ());
    let extension = |bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes - 2));
    assert_eq!(fault(extension(1024)), Ok(()));
    assert_eq!(fault(extension(1025)), Err(Malformed::ExtensionTooLong));
    assert_eq!(fault(extension(1000).repeat(16)), Ok(()));
    assert_eq!(
        fault(extension(1000).repeat(17)),
        Err(Malformed::ExtensionTooLong)
    );
    assert_eq!(
        fault(format!("1{}", ";a".repeat(600))),
        Err(Malformed::ExtensionTooLong)
    );
    assert_eq!(
        fault(format!("1{}", " ".repeat(2000))),
        Err(Malformed::ExtensionTooLong)
    );
    let trailer = |bytes: usize| format!("0\r\nA:{}\r\n\r\n", "b".repeat(bytes - 6));
    assert_eq!(fault(trailer(16384)), Ok(()));
    assert_eq!(fault(trailer(16390)), Err(Malformed::TrailerTooLong));
    assert_eq!(
        fault(format!("0\r\n{}", "A:\r\n".repeat(5000))),
        Err(Malformed::TrailerTooLong)
    );
    // Many small chunks are slow, but no flood: each carries payload.
    assert_eq!(fault("1\r\nx\r\n".repeat(5_000)), Ok(()));
}

#[test]
fn plain_bodies() {
    let body = b"hello, and more";
    for (framing, used, done) in [
        (Framing::Empty, 0, true),
        (Framing::Length(0), 0, true),
        (Framing::Length(5), 5, true),
        (Framing::Length(15), 15, true),
        (Framing::Length(16), 15, false),
        (Framing::Length(u64::MAX), 15, false),
        (Framing::UntilClose, 15, false),
    ] {
        let wanted = (body[..used].to_vec(), used, done);
        assert_eq!(every_split(body, framing), Ok(wanted), "{framing:?}");
        let mut decoder = Decoder::new(framing);
        assert_eq!(
            verbatim(&mut decoder, framing, body),
            Some(used),
            "{framing:?}"
        );
        assert_eq!(decoder.is_done(), done);
        assert_eq!(decoder.is_until_close(), framing == Framing::UntilClose);
    }
}

#[test]
fn chunks_are_never_verbatim() {
    let mut decoder = Decoder::new(Framing::Chunked);
    for to in [
        Framing::Chunked,
        Framing::UntilClose,
        Framing::Length(3),
        Framing::Empty,
    ] {
        assert_eq!(verbatim(&mut decoder, to, b"3\r\nabc"), None);
    }
    decoder.step(b"3\r\na").expect("a chunk");
    assert_eq!(verbatim(&mut decoder, Framing::UntilClose, b"bc"), None);
    assert_eq!(
        verbatim(
            &mut Decoder::new(Framing::Length(3)),
            Framing::Chunked,
            b"abc"
        ),
        None
    );
    assert_eq!(
        verbatim(
            &mut Decoder::new(Framing::UntilClose),
            Framing::Chunked,
            b"abc"
        ),
        None
    );
}

#[test]
fn a_step_is_framing_and_then_payload() {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut rest = &b"5;a\r\nhello\r\n0\r\nA: b\r\n\r\nGET"[..];
    for (framing, data) in [(5, 5), (13, 0), (0, 0)] {
        let step = decoder.step(rest).expect("no fault");
        assert_eq!(step, Step { framing, data });
        rest = &rest[framing + data..];
    }
    assert!(decoder.is_done());
    assert_eq!(rest, b"GET");
}

/// What came in one piece leaves as one chunk; the last chunk is written once, at the end.
#[rustfmt::skip]
#[test]
fn recoding() {
    for (name, from, to, pieces, wanted) in [
        ("chunks together", Framing::Chunked, Framing::Chunked, &["1;x=y\r\na\r\n2\r\nbc\r\n", "0\r\nA: b\r\n\r\n"][..], "3\r\nabc\r\n0\r\n\r\n"),
        ("all at once", Framing::Chunked, Framing::Chunked, &["1\r\na\r\n2\r\nbc\r\n0\r\n\r\nrest"], "3\r\nabc\r\n0\r\n\r\n"),
        ("a chunk in parts", Framing::Chunked, Framing::Chunked, &["4\r\nab", "cd", "\r\n0\r\n\r", "\n"], "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"),
        ("framing alone", Framing::Chunked, Framing::Chunked, &["4", "\r\n"], ""),
        ("to a 1.0 client", Framing::Chunked, Framing::UntilClose, &["3\r\nabc\r\n0\r\n\r\n"], "abc"),
        ("a length to chunks", Framing::Length(3), Framing::Chunked, &["ab", "cd"], "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        ("a length", Framing::Length(3), Framing::Length(3), &["ab", "cd"], "abc"),
        ("until the close", Framing::UntilClose, Framing::UntilClose, &["ab", "", "cd"], "abcd"),
        ("until the close, never ended", Framing::UntilClose, Framing::Chunked, &["ab", "", "cd"], "2\r\nab\r\n2\r\ncd\r\n"),
        ("after the end", Framing::Chunked, Framing::Chunked, &["0\r\n\r\n", "0\r\n\r\n"], "0\r\n\r\n"),
    ] {
        let mut decoder = Decoder::new(from);
        let mut out = Vec::new();
        for piece in pieces {
            transfer(&mut decoder, to, piece.as_bytes(), &mut out).expect(name);
        }
        assert_eq!(String::from_utf8_lossy(&out), wanted, "{name}");
    }
}

#[test]
fn nothing_is_written_of_a_malformed_piece() {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut out = Vec::new();
    let outcome = transfer(&mut decoder, Framing::Chunked, b"1\r\na\r\nxyz", &mut out);
    assert_eq!((outcome, out.as_slice()), (Err(Malformed::Size), &b""[..]));
    assert!(!decoder.is_done());
}
