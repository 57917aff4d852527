"""A browser and an administrator of a real Authentik, and where such an image comes from.

The stand-in has the name of the real image, and is known by its label.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support import engine
from tests.support.client import Answer, Client
from tests.support.documents import read_yaml

STAND_IN = "avatar-setup.standin"
REASON = "wants a real Authentik: "


@cache
def real_image() -> tuple[str, str]:
    """The image of a real Authentik and "", or "" and the reason why there is none."""
    settings = read_yaml((engine.ROOT / "setup" / "defaults.yaml").read_text())["settings"]
    default = f"{settings['AVATAR_AUTHENTIK_REPOSITORY']}/server:{settings['AVATAR_AUTHENTIK_VERSION']}"
    image = os.environ.get("AUTHENTIK_IMAGE") or default
    shown = engine.docker("image", "inspect", image, check=False)
    if shown.returncode:
        return "", f"{image} is not on this engine; AUTHENTIK_IMAGE may name another"
    labels = json.loads(shown.stdout)[0]["Config"]["Labels"] or {}
    if STAND_IN in labels:
        return "", f"{image} is the tests' stand-in on this engine; AUTHENTIK_IMAGE may name a real one"
    return image, ""


class Browser:
    """Keeps cookies, and speaks to Authentik as its own pages do."""

    def __init__(self, client: Client, base: str) -> None:
        self.client, self.base = client, base
        self.cookies: dict[str, str] = {}

    def ask(
        self, url: str, method: str = "GET", fields: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, with what `fields` are sent as JSON; no redirect is followed."""
        target = urlsplit(urljoin(f"{self.base}/", url))
        sent = {"Accept": "application/json", **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = b""
        if fields is not None:
            sent.setdefault("Content-Type", "application/json")
            sent["Referer"] = self.base
            sent["X-authentik-CSRF"] = self.cookies.get("authentik_csrf", "")
            form = sent["Content-Type"] == "application/x-www-form-urlencoded"
            body = urlencode(fields).encode() if form else json.dumps(fields).encode()
        answer = self.client.ask(target._replace(scheme="", netloc="").geturl(), sent, method, body)
        for cookie in answer.all("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def _challenge(self, answer: Answer) -> dict[str, Any]:
        while answer.status in {301, 302, 303}:
            answer = self.ask(answer.all("Location")[0])
        return answer.seen

    def flow(self, slug: str, answers: Mapping[str, Mapping[str, Any]], query: str = "") -> dict[str, Any]:
        """Answers the challenges of a flow by their component; the first that has no answer."""
        url = f"/sso/api/v3/flows/executor/{slug}/?{urlencode({'query': query})}"
        challenge = self._challenge(self.ask(url))
        left = dict(answers)
        while (component := challenge["component"]) in left:
            confirmed = {"token": challenge["token"]} if "token" in challenge else {}
            given = {"component": component, **confirmed, **left.pop(component)}
            challenge = self._challenge(self.ask(url, "POST", given))
        return challenge

    def sign_in_flow(self) -> str:
        """The flow of the brand at this address."""
        slug: str = self.ask("/sso/api/v3/core/brands/current/").seen["flow_authentication"]
        return slug

    def sign_in(self, name: str, password: str) -> dict[str, Any]:
        """The challenge after the usual questions of the sign-in; `xak-flow-redirect` once signed in."""
        answers = {"ak-stage-identification": {"uid_field": name}, "ak-stage-password": {"password": password}}
        return self.flow(self.sign_in_flow(), answers)

    def authorize(self, fields: Mapping[str, str]) -> dict[str, list[str]]:
        """What Authentik sends the client back with, from somebody who is signed in."""
        location = self.ask(f"/sso/application/o/authorize/?{urlencode(fields)}").all("Location")[0]
        page = urlsplit(location)
        if "/if/flow/" in page.path:
            slug = page.path.rstrip("/").rpartition("/")[2]
            challenge = self.flow(slug, {}, page.query)
            assert challenge["component"] == "xak-flow-redirect", challenge
            location = challenge["to"]
        back = urlsplit(location)
        assert location.partition("?")[0] == fields["redirect_uri"], location
        return parse_qs(back.query)


class Token:
    """Speaks to Authentik's API with a token."""

    def __init__(self, client: Client, base: str, key: str) -> None:
        self._browser = Browser(client, base)
        self._headers = {"Authorization": f"Bearer {key}"}

    def ask(self, path: str, method: str = "GET", fields: Any = None) -> Answer:
        return self._browser.ask(f"/sso/api/v3/{path}", method, fields, self._headers)

    def get(self, path: str) -> Any:
        return self.ask(path).seen

    def results(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(path)["results"]
        return found

    def change(self, path: str, method: str = "POST", **fields: Any) -> Any:
        """The changed object, or None if the answer has none."""
        answer = self.ask(path, method, fields)
        assert answer.status in {200, 201, 204}, (path, answer.status, answer.body)
        return json.loads(answer.body) if answer.body else None


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verified_claims(token: str, keys: list[dict[str, Any]]) -> dict[str, Any]:
    """The claims of a token that one of the published RSA keys has signed."""
    header, claims, signature = token.split(".")
    wanted = json.loads(_decoded(header))
    assert wanted["alg"] == "RS256", wanted
    published = next(key for key in keys if key["kid"] == wanted["kid"])
    e, n = (int.from_bytes(_decoded(published[part]), "big") for part in ("e", "n"))
    key = rsa.RSAPublicNumbers(e, n).public_key()
    key.verify(_decoded(signature), f"{header}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    found: dict[str, Any] = json.loads(_decoded(claims))
    return found
