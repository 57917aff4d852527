"""Check from the network, if asked to, that the public name resolves and that each part of this stack answers there."""

from __future__ import annotations

from datetime import UTC, datetime

from setup.checks.volume import read_regular
from setup.client import Server, Untrusted
from setup.config import derived
from setup.config.engines import address_of, logs_of, reload_of, start_commands, status_of
from setup.errors import NetworkError
from setup.findings import Finding, Level
from setup.tls.provided import read_provided
from setup.typed import TYPE_CHECKING, NamedTuple
from setup.volume.layout import CA_BUNDLE, CERTIFICATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from setup.client import Reply
    from setup.config.values import Values
    from setup.volume.volume import Volume

_SOON = 30  # days


class Part(NamedTuple):
    """A part of the stack: the name of its finding, its service, and a path that shows whether it works."""

    name: str
    service: str
    path: str
    words: str


PARTS = (
    Part("public-web", "web", "/web", "the web client"),
    Part("public-api", "api", "/api/health", "the API"),
    Part("public-storage", "s3", "/storage/healthz", "the storage"),
)


def public_server(volume: Volume, values: Values) -> Server:
    """Return the stack as a client reaches it; a client trusts what the API services trust."""
    bundle = read_regular(volume, CA_BUNDLE) if derived.has_private_ca(values) else None  # an earlier one may be left
    return Server(derived.base_url(values), bundle or b"")


def check_network(volume: Volume, values: Values) -> Iterator[Finding]:
    """Check the name, the certificate and every part; nothing more once the address itself does not answer."""
    server, base = public_server(volume, values), derived.base_url(values)
    if not derived.is_address(server.host):
        addresses = server.resolve()
        if not addresses:
            text = f"{server.host} does not resolve here"
            todo = "create a DNS record for it"
            if shown := address_of(values):
                todo += f", with the address that this shows: {shown}"
            yield Finding("public-name", Level.FAIL, text, todo)
            return
        yield Finding("public-name", Level.OK, f"{server.host} resolves to {', '.join(addresses)}")
    try:
        reply = server.ask("/")
    except Untrusted as error:
        text = f"{base} has a certificate that is not trusted here: {error}"
        yield Finding("public-certificate", Level.FAIL, text, _certificate_todo(values))
        return
    except NetworkError as error:
        text = f"{base} does not answer: {error}"
        start = " && ".join(start_commands(values, ""))
        todo = f"{start}, if the stack is not started yet; else {status_of(values)}, {logs_of(values, 'nginx')}"
        yield Finding("public-answer", Level.FAIL, text, todo)
        return
    yield _check_answer(base, reply, values)
    if reply.certificate:
        yield _check_certificate(volume, values, reply)
    for part in PARTS:
        yield _check_part(server, part, values)
    yield _check_sign_in(server, values)


def _check_answer(base: str, reply: Reply, values: Values) -> Finding:
    """Check what the address itself says: this stack redirects to its web client."""
    if reply.location.endswith("/web"):
        return Finding("public-answer", Level.OK, f"{base} answers and leads to the web client")
    if reply.body.startswith(b"Avatar is at "):  # what nginx says to those that ask for another host
        text = f"{base} reaches nginx under another host name"
        return Finding("public-answer", Level.FAIL, text, "let the proxy in front pass on the Host header as it is")
    text = f"{base} answers {reply.status} instead of leading to the web client"
    todo = f"{logs_of(values, 'nginx')}: is it this stack that answers?"
    return Finding("public-answer", Level.WARN, text, todo)


def _certificate_todo(values: Values) -> str:
    if derived.tls_is_ours(values):
        return f"compare it with the one that --check reads; after a change, {reload_of(values)}"
    return "correct it at the proxy in front; if a CA of your own has issued it, set TLS_CA_PATH to that CA"


def _check_certificate(volume: Volume, values: Values, reply: Reply) -> Finding:
    """Check the certificate that a client sees, which is trusted: its end, and whether it is the one on the volume."""
    end = datetime.fromtimestamp(reply.end, UTC)
    days = (end - datetime.now(UTC)).days
    text = f"clients see a certificate that is trusted here and valid until {end:%Y-%m-%d}, for {days} days"
    if _differs(volume, values, reply.certificate):
        text = "nginx still serves another certificate than the one in the file"
        return Finding("public-certificate", Level.WARN, text, reload_of(values))
    if days < _SOON:
        todo = "renew it" if derived.tls_is_ours(values) else "renew it at the proxy in front"
        return Finding("public-certificate", Level.WARN, text, todo)
    return Finding("public-certificate", Level.OK, text)


def _differs(volume: Volume, values: Values, served: bytes) -> bool:
    """Tell whether nginx serves another certificate than the volume holds, False if that cannot be seen here."""
    chain = None
    if derived.certificate_is_made(values):
        chain = read_regular(volume, CERTIFICATE)
    elif derived.certificate_is_given(values):
        chain = read_provided(volume, values)[0].data
    if not chain:
        return False
    from setup.tls.certificates import load_first

    try:
        return load_first(chain) != load_first(served)
    except ValueError:
        return False  # `check_certificates` reports a file that is damaged


def _check_part(server: Server, part: Part, values: Values) -> Finding:
    base = derived.base_url(values)
    try:
        reply = server.ask(part.path)
    except NetworkError as error:
        return _silent(part, f"{part.path} does not answer: {error}", values)
    if reply.status == 200 or (reply.status < 400 and reply.location.startswith(("/", f"{base}/"))):
        return Finding(part.name, Level.OK, f"{part.words} answers ({part.path})")
    return _silent(part, f"{part.path} answers {reply.status}", values)


def _silent(part: Part, text: str, values: Values) -> Finding:
    return Finding(part.name, Level.FAIL, f"{part.words}: {text}", logs_of(values, part.service))


def _check_sign_in(server: Server, values: Values) -> Finding:
    """Check that Authentik serves the application, and calls itself what the API calls it."""
    base = derived.base_url(values)
    url = f"{values['SSO_PROVIDER_URL']}/application/o/{values['SSO_PROVIDER_APP_NAME']}/"
    if not url.startswith(f"{base}/"):
        return Finding("public-sign-in", Level.SKIP, f"sign-in is at {url}, which is not part of this stack")
    path = f"{url.removeprefix(base)}.well-known/openid-configuration"
    part = Part("public-sign-in", "authentik_server", path, "sign-in")
    try:
        reply = server.ask(path)
    except NetworkError as error:
        return _silent(part, f"{path} does not answer: {error}", values)
    if reply.status == 404:
        text = f"sign-in: Authentik does not know the application {values['SSO_PROVIDER_APP_NAME']}"
        return Finding("public-sign-in", Level.FAIL, text, logs_of(values, "authentik_blueprint"))
    if reply.status != 200:
        return _silent(part, f"{path} answers {reply.status}", values)
    issuer = reply.data.get("issuer") if isinstance(reply.data, dict) else None
    if issuer == url:
        return Finding("public-sign-in", Level.OK, f"sign-in answers as {url}")
    text = f"sign-in: Authentik calls itself {issuer} instead of {url}"
    todo = "let the proxy in front pass on the Host header as it is" if derived.behind_proxy(values) else ""
    return Finding("public-sign-in", Level.FAIL, text, todo or logs_of(values, "authentik_server"))
