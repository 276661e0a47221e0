"""A service for tests, run by the path of this file: what it does is said by the path of the request."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    """Echoes, streams, sleeps, answers garbage, breaks off."""

    protocol_version = "HTTP/1.1"
    goes_on = threading.Event()

    def answer(self) -> None:
        """By the first word of the path."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        word = self.path.strip("/").partition("/")[0].partition("?")[0]
        getattr(self, f"_{word}", self._echo)(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer  # noqa: N815 (names of http.server)

    def _echo(self, body: bytes) -> None:
        told = {"method": self.command, "path": self.path, "headers": dict(self.headers), "bytes": len(body), "pid": os.getpid()}
        self._send(json.dumps(told).encode(), "application/json")

    def _slow(self, _: bytes) -> None:
        time.sleep(1.5)
        self._send(b"slow", "text/plain")

    def _never(self, _: bytes) -> None:
        time.sleep(60.0)

    def _error(self, _: bytes) -> None:
        self._send(b"own error", "text/plain", status=500)

    def _garbage(self, _: bytes) -> None:
        self.wfile.write(b"\x00\x01 this is no HTTP \xff\r\n\r\n")
        self.close_connection = True

    def _cut(self, _: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"x" * 100_000)
        self.close_connection = True

    def _stream(self, _: bytes) -> None:
        self.goes_on.clear()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for k in range(4):
            self.wfile.write(b"6\r\npart-%d\r\n" % k)
            self.wfile.flush()
            self.goes_on.wait(60.0)
        self.wfile.write(b"0\r\n\r\n")

    def _go(self, _: bytes) -> None:
        """Let `/stream` go on after its first part."""
        self.goes_on.set()
        self._send(b"gone on", "text/plain")

    def _send(self, body: bytes, kind: str, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(http.server.ThreadingHTTPServer):
    """With room for many at once."""

    request_queue_size = 256


if __name__ == "__main__":
    Server((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
