"""An HTTP service: greets whoever is named in the body. Listens at HOST and PORT, as Tango sets them for a local process."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Greet(BaseHTTPRequestHandler):
    """Answers POST with a line of text."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a POST (the name is what `http.server` calls)."""
        name = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
        body = f"Hello, {name or 'nobody'}, from process {os.getpid()}!\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Write no line for each request."""


if __name__ == "__main__":
    ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Greet).serve_forever()
