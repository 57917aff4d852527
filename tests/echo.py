"""An upstream for the tests of nginx: `echo.py NAME=PORT...` answers with what reached it.

`?header=N` adds a response header of N bytes; a path that ends in /early is answered before its body is
read. Every answer claims headers that nginx must not pass on twice.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        target = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        read = 0 if target.path.endswith("/early") else len(self.rfile.read(length))
        if read < length:
            self.close_connection = True
        seen = {
            "service": self.server.name,
            "method": self.command,
            "path": self.requestline.split()[1],  # self.path has its first slashes merged
            "headers": {key.lower(): value for key, value in self.headers.items()},
            "read": read,
        }
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Strict-Transport-Security", "max-age=1")
        self.send_header("X-Content-Type-Options", "upstream")
        for size in parse_qs(target.query).get("header", ()):
            self.send_header("X-Large", "x" * int(size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, format, *args) -> None:
        pass


def main() -> None:
    for argument in sys.argv[1:]:
        name, _, port = argument.partition("=")
        server = ThreadingHTTPServer(("0.0.0.0", int(port)), Echo)
        server.name = name
        threading.Thread(target=server.serve_forever).start()


main()
