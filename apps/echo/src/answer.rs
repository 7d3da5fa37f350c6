//! Writing answers: whole ones, and flowing ones that are chunked for HTTP/1.1 clients and end
//! with the connection for HTTP/1.0. Every answer says which worker gave it.

use crate::connection::Connection;
use crate::request::Request;
use std::io::{self, Write};
use std::sync::LazyLock;

/// Who answers. Read once from the environment that the worker was started with.
pub struct Worker {
    pub app: String,
    pub instance: String,
    pub pid: u32,
}

pub static WORKER: LazyLock<Worker> = LazyLock::new(|| {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| "-".to_owned());
    Worker {
        app: variable("APPNAME"),
        instance: variable("NODE_APP_INSTANCE"),
        pid: std::process::id(),
    }
});

/// Status line and the fields all answers have; without the blank line.
pub fn head(status: u64, fields: &[(&str, &str)]) -> String {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    let worker = &*WORKER;
    head += &format!(
        "X-Worker: {}\r\nX-Worker-Pid: {}\r\n",
        worker.instance, worker.pid
    );
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    head
}

/// A whole answer, in one write.
pub fn whole(
    connection: &mut Connection,
    request: &Request,
    status: u64,
    fields: &[(&str, &str)],
    body: &[u8],
) -> io::Result<()> {
    let mut head = head(status, fields);
    let bodiless = status < 200 || status == 204 || status == 304;
    if !bodiless {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += keep_field(request);
    head += "\r\n";
    let mut bytes = head.into_bytes();
    if !bodiless && request.method != "HEAD" {
        bytes.extend_from_slice(body);
    }
    connection.output.write_all(&bytes)
}

pub fn text(connection: &mut Connection, request: &Request, body: &str) -> io::Result<()> {
    whole(
        connection,
        request,
        200,
        &[("Content-Type", "text/plain; charset=utf-8")],
        body.as_bytes(),
    )
}

/// What is said to a client whose request makes no sense; the connection ends with it.
pub fn refuse(output: &mut impl Write, what: &str) -> io::Result<()> {
    let head = head(400, &[("Connection", "close")]);
    let body = format!("echo: bad request: {what}\n");
    write!(output, "{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// HTTP/1.0 clients must be told that the connection stays, HTTP/1.1 clients that it does not.
pub fn keep_field(request: &Request) -> &'static str {
    match (request.minor, request.keeps_alive()) {
        (0, true) => "Connection: keep-alive\r\n",
        (_, false) => "Connection: close\r\n",
        (_, true) => "",
    }
}

/// A body whose length is not said beforehand.
pub struct Flow {
    chunked: bool,
    silent: bool,
}

impl Flow {
    pub fn begin(
        connection: &mut Connection,
        request: &Request,
        fields: &[(&str, &str)],
    ) -> io::Result<Flow> {
        let chunked = request.minor == 1;
        let mut head = head(200, fields);
        head += if chunked {
            "Transfer-Encoding: chunked\r\n"
        } else {
            "Connection: close\r\n"
        };
        if chunked {
            head += keep_field(request);
        }
        head += "\r\n";
        connection.output.write_all(head.as_bytes())?;
        Ok(Flow {
            chunked,
            silent: request.method == "HEAD",
        })
    }

    pub fn piece(&mut self, connection: &mut Connection, bytes: &[u8]) -> io::Result<()> {
        if self.silent || bytes.is_empty() {
            return Ok(());
        }
        if !self.chunked {
            return connection.output.write_all(bytes);
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        connection.output.write_all(&chunk)
    }

    /// `trailers` is empty or whole lines. Tells whether the connection can be kept.
    pub fn end(self, connection: &mut Connection, trailers: &str) -> io::Result<bool> {
        if self.chunked && !self.silent {
            write!(connection.output, "0\r\n{trailers}\r\n")?;
        }
        Ok(self.chunked)
    }
}

fn reason(status: u64) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        426 => "Upgrade Required",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "As Asked",
    }
}
