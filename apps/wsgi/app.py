"""A WSGI app on a Unix socket of its own, to prove that any program will do.

usage: app.py SOCKET
"""

import os
import socketserver
import sys
from wsgiref.simple_server import WSGIRequestHandler


def app(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    text = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} with {len(body)} bytes, from process {os.getpid()}\n"
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))])
    return [text.encode()]


class Handler(WSGIRequestHandler):
    """wsgiref expects a TCP peer and closes after each request; both are fine here."""

    def handle(self):
        self.client_address = ("unix", 0)
        super().handle()

    def address_string(self):
        return self.headers.get("X-Forwarded-For", "unix")

    def log_message(self, form, *values):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
    base_environ = {"SERVER_NAME": "wsgi", "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PORT": "80",
                    "REMOTE_HOST": "", "CONTENT_LENGTH": "", "SCRIPT_NAME": ""}

    def get_app(self):
        return app


if __name__ == "__main__":
    path = sys.argv[1]
    if os.path.exists(path):
        os.unlink(path)
    print(f"wsgi: process {os.getpid()} listens on {path}", flush=True)
    Server(path, Handler).serve_forever()
