"""A stand-in's server: `server.py NAME [HOST:PORT...]` answers each request with what reached it.

200 for every path, with a JSON object of service, method, path, headers and body length, so that a test
sees what nginx passed on. Without an address it only waits for the end. Secrets that the process may not
read end it at once, as they would end the program it stands for.
"""

import http.server
import json
import os
import signal
import sys
import threading
from pathlib import Path


def check_secrets() -> None:
    directory = Path("/run/secrets")
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        try:
            path.read_bytes()
        except OSError as error:
            sys.exit(f"uid {os.getuid()} cannot read the secret {path.name}: {error.strerror}")


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service = ""

    def skip(self, length: int) -> int:
        left = length
        while left:
            left -= len(self.rfile.read(min(left, 1 << 20))) or left
        return length

    def skip_chunks(self) -> int:
        total = 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            total += self.skip(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return total

    def answer(self) -> None:
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        length = self.skip_chunks() if chunked else self.skip(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(
            {
                "service": self.service,
                "method": self.command,
                "path": self.path,
                "headers": dict(self.headers.items()),
                "length": length,
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    name, *addresses = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    check_secrets()
    Echo.service = name
    for address in addresses:
        host, port = address.rsplit(":", 1)
        server = http.server.ThreadingHTTPServer((host, int(port)), Echo)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stderr.write(f"{name} listens on {address} as uid {os.getuid()}\n")
    while True:
        signal.pause()


main()
