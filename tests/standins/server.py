"""A stand-in's server: `server.py NAME [HOST:PORT...]` answers each request with what reached it, and who was asked.

200 for every path, with a JSON object of method, path, headers and body length beside the stand-in's report, and of
the bytes of all bodies that have come in until now, so that a test sees what nginx passed on, and when. Every answer
claims headers that nginx must not pass on twice. In the query, `header=N` adds a header of N bytes and `body=N`
answers with N bytes instead, and `wait=N` waits N seconds first; a path that ends in /early is answered before its
body is read. A WebSocket is opened, and sends each frame back. Without an address it only waits for the end.
"""

import base64
import hashlib
import http.server
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from report import announce, report

WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
PIECE = 1 << 18


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service = ""
    received = 0  # bytes of all bodies
    lock = threading.Lock()

    def sizes(self) -> Iterator[int]:
        """The size of each piece of the body, read as it comes."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield from self.pieces(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            yield from self.pieces(int(self.headers.get("Content-Length") or 0))

    def pieces(self, left: int) -> Iterator[int]:
        while left and (data := self.rfile.read(min(left, PIECE))):
            left -= len(data)
            yield len(data)

    def read_body(self) -> int:
        length = 0
        for size in self.sizes():
            length += size
            with self.lock:
                Echo.received += size
        return length

    def answer(self) -> None:
        target = urlsplit(self.path)
        query = parse_qs(target.query)
        if self.headers.get("Upgrade", "").lower() == "websocket" and "Sec-WebSocket-Key" in self.headers:
            self.open_websocket()
            return
        early = target.path.endswith("/early")
        length = 0 if early else self.read_body()
        self.close_connection |= early
        seen = {
            **report(self.service),
            "container": os.uname().nodename,
            "method": self.command,
            "path": self.requestline.split()[1],  # self.path has its first slashes merged
            "headers": {key.lower(): value for key, value in self.headers.items()},
            "length": length,
            "received": self.received,
        }
        application, discovery, _ = target.path.partition(".well-known/openid-configuration")
        if discovery:  # Authentik calls itself what the request called it
            seen["issuer"] = f"{self.headers['X-Forwarded-Proto']}://{self.headers['Host']}{application}"
        time.sleep(sum(int(seconds) for seconds in query.get("wait", ())))
        wanted = int(query["body"][0]) if "body" in query else None
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if wanted is None else wanted))
        self.send_header("Strict-Transport-Security", "max-age=1")
        self.send_header("X-Content-Type-Options", "upstream")
        for size in query.get("header", ()):
            self.send_header("X-Large", "x" * int(size))
        self.end_headers()
        if self.command == "HEAD":
            return
        if wanted is None:
            self.wfile.write(body)
        else:
            self.write_bytes(wanted)

    def write_bytes(self, left: int) -> None:
        piece = bytes(PIECE)
        while left:
            left -= self.wfile.write(piece[:left])

    def open_websocket(self) -> None:
        digest = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + WEBSOCKET, usedforsecurity=False).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
        self.end_headers()
        while len(start := self.rfile.read(2)) == 2:  # short, masked frames are all that a test sends
            mask = self.rfile.read(4)
            payload = self.rfile.read(start[1] & 0x7F)
            self.wfile.write(bytes([start[0], len(payload)]) + bytes(x ^ mask[i % 4] for i, x in enumerate(payload)))
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    name, *addresses = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    Echo.service = name
    for address in addresses:
        host, port = address.rsplit(":", 1)
        server = Server((host, int(port)), Echo)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    announce(name)
    while True:
        signal.pause()


main()
