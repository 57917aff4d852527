"""What a real Authentik talks to: `receivers.py http PORT` and `receivers.py smtp PORT CERTIFICATE KEY`.

Run inside a container with nothing but Python. Each delivery is printed as one line of JSON. The mail server offers
nothing before STARTTLS and takes no mail without a sign-in, as a company's relay does.
"""

import base64
import http.server
import json
import socketserver
import ssl
import sys


def note(**delivery: object) -> None:
    sys.stdout.write(json.dumps(delivery) + "\n")
    sys.stdout.flush()


class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        note(path=self.path, headers=headers, body=body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Mail(socketserver.StreamRequestHandler):
    """Enough of RFC 5321, 3207 and 4954 for one sender."""

    context: ssl.SSLContext
    signed_in: "list[str] | None" = None
    encrypted = False

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())
        self.wfile.flush()

    def line(self) -> str:
        return self.rfile.readline().decode().rstrip("\r\n")

    def handle(self) -> None:
        sender, recipients = "", []
        self.say("220 mail ESMTP")
        while words := self.line():
            command = words.split(" ", 1)[0].upper()
            if command == "EHLO":
                self.say("250-mail\r\n250 AUTH PLAIN LOGIN" if self.encrypted else "250-mail\r\n250 STARTTLS")
            elif command == "STARTTLS":
                self.say("220 go ahead")
                self.encrypt()
            elif command == "AUTH" and self.encrypted:
                self.sign_in(words)
            elif command == "MAIL" and self.signed_in:
                sender = words
                self.say("250 ok")
            elif command == "RCPT" and self.signed_in:
                recipients.append(words)
                self.say("250 ok")
            elif command == "DATA" and self.signed_in:
                self.say("354 end with a dot")
                text = "\n".join(iter(self.line, "."))
                note(sender=sender, recipients=recipients, account=self.signed_in, text=text)
                self.say("250 ok")
            elif command == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok" if command in {"NOOP", "RSET"} else "530 not before STARTTLS and AUTH")

    def encrypt(self) -> None:
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.encrypted = True

    def sign_in(self, words: str) -> None:
        _, kind, *given = words.split(" ")
        if kind.upper() == "PLAIN":
            if not given:
                self.say("334 ")
                given = [self.line()]
            self.signed_in = base64.b64decode(given[0]).decode().split("\0")[1:]
        else:
            account = given or [self.ask("Username:")]
            self.signed_in = [base64.b64decode(text).decode() for text in (account[0], self.ask("Password:"))]
        self.say("235 welcome")

    def ask(self, question: str) -> str:
        self.say(f"334 {base64.b64encode(question.encode()).decode()}")
        return self.line()


def main() -> None:
    kind, port, *files = sys.argv[1:]
    if kind == "smtp":
        Mail.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        Mail.context.load_cert_chain(*files)
        socketserver.ThreadingTCPServer(("0.0.0.0", int(port)), Mail).serve_forever()
    http.server.ThreadingHTTPServer(("0.0.0.0", int(port)), Webhook).serve_forever()


if __name__ == "__main__":
    main()
