"""A small HTTP service: POST an image to /v1/inspect, and it answers the image's format, width, height, size and digest as JSON.

It knows nothing of Tango. `GET /ready` answers 200; an image that it does not know is answered with 415.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MOST_BYTES = 16 * 2**20


def size_of(image: bytes) -> tuple[str, int, int]:
    """(format, width, height) of a PNG, GIF, BMP or JPEG. Raises: ValueError for anything else."""
    try:
        if image.startswith(b"\x89PNG\r\n\x1a\n") and image[12:16] == b"IHDR":
            return "png", *struct.unpack(">II", image[16:24])
        if image[:6] in (b"GIF87a", b"GIF89a"):
            return "gif", *struct.unpack("<HH", image[6:10])
        if image.startswith(b"BM"):
            width, height = struct.unpack("<ii", image[18:26])
            return "bmp", width, abs(height)
        if image.startswith(b"\xff\xd8"):
            return "jpeg", *_jpeg_size(image)
    except struct.error as error:
        raise ValueError("the image is cut off") from error
    raise ValueError("neither PNG, GIF, BMP nor JPEG")


def _jpeg_size(image: bytes) -> tuple[int, int]:
    """Width and height from the first frame header (markers SOF0 to SOF15, without DHT, JPG and DAC)."""
    at = 2
    while at < len(image):
        marker, length = struct.unpack(">HH", image[at : at + 4])
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack(">HH", image[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise ValueError("a JPEG without a frame")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Readiness."""
        if self.path == "/ready":
            self._answer(200, {"ready": True})
        else:
            self._answer(404, {"error": "there is /ready, and POST /v1/inspect"})

    def do_POST(self) -> None:
        """Inspect the body."""
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/v1/inspect":
            self.close_connection = True
            self._answer(404, {"error": "there is POST /v1/inspect"})
            return
        if length > MOST_BYTES:
            self.close_connection = True
            self._answer(413, {"error": f"more than {MOST_BYTES} bytes"})
            return
        image = self.rfile.read(length)
        try:
            kind, width, height = size_of(image)
        except ValueError as error:
            self._answer(415, {"error": str(error)})
            return
        found = {"format": kind, "width": width, "height": height, "bytes": len(image)}
        self._answer(200, found | {"sha256": hashlib.sha256(image).hexdigest()})

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until SIGTERM, then finish what is under way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8081)
    options = parser.parse_args()
    server = ThreadingHTTPServer((options.host, options.port), Handler)
    server.daemon_threads = False
    # From a thread of its own: shutdown waits for serve_forever, which this signal interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on {options.host}:{options.port}", flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    main()
