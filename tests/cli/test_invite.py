"""`--invite`: a server with Authentik's API checks path, token, bodies and order, for the command and its script."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cli.test_check import SETTINGS
from tests.cli.test_given_certificate import CHAIN, KEY
from tests.support.runs import deployed, lacking, ran, secrets, tree
from tests.support.web import Request, Response, free_port, serving

API = "/sso/api/v3/"
ADA = "ada@example.com"
GROUPS = {"Octopize - Admins": str(uuid.UUID(int=1)), "Octopize - Users": str(uuid.UUID(int=2))}
STAGE = str(uuid.UUID("c0ffee00-0000-4000-8000-000000000003"))
MAILED = "A mail with a link to choose a password is on its way"


class Authentik:
    """As much of Authentik's API as an invitation needs; whatever else is asked, or asked otherwise, is refused."""

    def __init__(self, token: str, host: str) -> None:
        self.token, self.host = token, host
        self.users: dict[int, dict[str, Any]] = {1: user(1, "akadmin", "admin@localhost")}
        self.groups = dict(GROUPS)
        self.members: list[tuple[str, int]] = []
        self.mails: list[str] = []
        self.breaks = ""  # the part of the API that answers with an error

    def __call__(self, request: Request) -> Response:
        url = urlsplit(request.path)
        if request.headers["host"] != self.host or not url.path.startswith(API):
            return Response(421)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Response(403, {"detail": "Token invalid/expired"})
        path, fields = url.path.removeprefix(API), {key: value for key, (value,) in parse_qs(url.query).items()}
        if self.breaks and self.breaks in path:
            return Response(400, {"non_field_errors": "No recovery flow set."})
        if request.method == "POST" and request.headers.get("content-type") != "application/json":
            return Response(415)
        if request.method == "GET":
            return listed(self.found(path, fields))
        return self.done(path.split("/"), fields, request.body)

    def found(self, path: str, fields: dict[str, str]) -> list[dict[str, Any]]:
        """The rows of a list, by the filters that it knows."""
        if path == "core/groups/" and fields.keys() == {"name", "include_users"}:
            keys = [key for name, key in self.groups.items() if name == fields["name"]]
            return [{"pk": key, "num_pk": 7, "name": fields["name"], "roles_obj": [{"pk": STAGE}]} for key in keys]
        if path == "stages/email/" and fields == {"name": "avatar-recovery-email"}:
            return [{"pk": STAGE, "name": fields["name"]}]
        assert path == "core/users/"
        ((key, value),) = fields.items()
        assert key in ("email", "username")
        return [one for one in self.users.values() if one[key] == value]

    def done(self, parts: list[str], fields: dict[str, str], body: dict[str, Any]) -> Response:
        match parts:
            case ["core", "users", ""]:
                return self.create(body)
            case ["core", "groups", group, "add_user", ""] if group in self.groups.values():
                self.members.append((group, int(body["pk"])))
                return Response(204)
            case ["core", "users", number, "recovery_email", ""]:
                # Authentik before 2026 reads the stage from the query, later releases from the body.
                assert fields["email_stage"] == body["email_stage"] == STAGE
                self.mails.append(self.users[int(number)]["email"])
                return Response(204)
        return Response(404, {"detail": "Not found."})

    def create(self, body: dict[str, Any]) -> Response:
        assert body.keys() == {"username", "name", "email", "type", "is_active", "groups"}
        if any(one["username"] == body["username"] for one in self.users.values()):
            return Response(400, {"username": ["This field must be unique."]})
        number = max(self.users) + 1
        self.users[number] = {**user(number, body["username"], body["email"]), "type": body["type"]}
        return Response(201, self.users[number])


def user(number: int, name: str, email: str) -> dict[str, Any]:
    more = {"type": "internal", "is_active": True, "groups_obj": [{"pk": GROUPS["Octopize - Users"]}]}
    return {"pk": number, "username": name, "name": name, "email": email, **more}


def listed(rows: list[dict[str, Any]]) -> Response:
    return Response(200, {"pagination": {"count": len(rows), "current": 1}, "results": rows, "autocomplete": {}})


class Deployment:
    def __init__(self, out: Path, **more: str) -> None:
        self.port = free_port()
        self.host = f"localhost:{self.port}"
        self.out = deployed(out, settings=SETTINGS | {"PUBLIC_URL": self.host} | more)
        self.authentik = Authentik(secrets(self.out)["authentik_bootstrap_token"], self.host)

    def online(self, *flags: str, code: int = 0) -> Any:
        """Invite over the public address; what is printed, or the message of a failure."""
        with serving(self.port, self.authentik, (self.out / CHAIN, self.out / KEY)) as self.requests:
            done = ran(self.out, "--invite", *flags, "--online", settings={}, code=code)
        shown = done.stdout + done.stderr
        assert secrets(self.out)["authentik_bootstrap_token"] not in shown
        return shown

    def by_script(self, *flags: str, code: int = 0) -> str:
        """Invite by the script that is printed, as an operator pipes it into sh."""
        if not shutil.which("curl"):
            lacking("curl is missing (apt-get install curl)")
        text = ran(self.out, "--invite", *flags, settings={}).stdout
        assert secrets(self.out)["authentik_bootstrap_token"] not in text
        with serving(self.port, self.authentik, (self.out / CHAIN, self.out / KEY)) as self.requests:
            done = subprocess.run(["sh"], input=text, cwd="/", capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def one(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path / "out")


# The script starts a process for each question.
WAYS = [pytest.param(Deployment.online), pytest.param(Deployment.by_script, marks=pytest.mark.slow)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("flags", "group", "kind"), [((), "Octopize - Users", "external"), (("--admin",), "Octopize - Admins", "internal")]
)
def test_a_new_user_comes_into_the_group_and_gets_the_mail(
    one: Deployment, way: Callable[..., str], flags: tuple[str, ...], group: str, kind: str
) -> None:
    before = tree(one.out)
    assert MAILED in way(one, ADA, *flags)
    made = one.authentik.users[2]
    assert (made["username"], made["email"], made["type"]) == (ADA, ADA, kind)
    assert one.authentik.members == [(GROUPS[group], 2)]
    assert one.authentik.mails == [ADA]
    asked = [f"{request.method} {urlsplit(request.path).path.removeprefix(API)}" for request in one.requests]
    assert asked[:2] == ["GET core/groups/", "GET stages/email/"], "nothing is made before everything is found"
    assert [words for words in asked if words.startswith("POST")] == [
        "POST core/users/", f"POST core/groups/{GROUPS[group]}/add_user/", "POST core/users/2/recovery_email/"
    ]  # fmt: skip
    assert tree(one.out) == before


@pytest.mark.parametrize("way", WAYS)
def test_an_existing_user_is_not_made_again_and_gets_the_mail(one: Deployment, way: Callable[..., str]) -> None:
    way(one, ADA)
    shown = way(one, ADA)
    assert MAILED in shown
    assert len(one.authentik.users) == 2
    assert one.authentik.mails == [ADA, ADA]
    if way is Deployment.online:
        assert f"{ADA} exists already, and is now in the group Octopize - Users." in shown


def test_the_answer_as_data(one: Deployment) -> None:
    found = json.loads(one.online(ADA, "--json"))
    assert found == {"email": ADA, "group": "Octopize - Users", "created": True, "mail": "sent"}


def test_another_users_name_is_shown(one: Deployment) -> None:
    assert "admin@localhost" not in ADA
    one.authentik.users[1]["email"] = ADA
    assert f"{ADA} (akadmin) exists already" in one.online(ADA)


@pytest.mark.slow
def test_an_odd_address_stays_what_it_is(one: Deployment) -> None:
    odd = "o'brien+avatar&x=$(id)@example.com".replace("(id)", "id")
    assert MAILED in one.online(odd)
    one.authentik.users.pop(2)
    assert MAILED in one.by_script(odd)
    assert one.authentik.mails == [odd, odd]


@pytest.mark.parametrize("way", WAYS)
def test_a_token_that_is_refused_says_what_to_do(one: Deployment, way: Callable[..., str]) -> None:
    one.authentik.token = "another"
    shown = way(one, ADA, code=1)
    assert len(one.authentik.users) == 1
    if way is Deployment.online:
        assert ".secrets/authentik_bootstrap_token: Authentik does not accept this token (403)" in shown
        assert "/sso/if/admin/, as akadmin, make the user under Directory > Users" in shown
    else:
        assert "403" in shown
        assert "refuses the token" in shown


@pytest.mark.parametrize("way", WAYS)
def test_a_missing_group_says_what_makes_it(one: Deployment, way: Callable[..., str]) -> None:
    one.authentik.groups.clear()
    shown = way(one, ADA, code=1)
    assert "docker compose up -d applies the blueprint again" in shown
    assert len(one.authentik.users) == 1


def test_a_mail_that_is_refused_is_told_and_the_next_try_goes_on(one: Deployment) -> None:
    one.authentik.breaks = "recovery_email"
    shown = one.online(ADA, code=1)
    assert "core/users/2/recovery_email/: Authentik answers 400: " in shown
    assert "No recovery flow set." in shown
    one.authentik.breaks = ""
    assert MAILED in one.online(ADA)
    assert len(one.authentik.users) == 2


def test_a_deactivated_user_is_not_mailed(one: Deployment) -> None:
    one.online(ADA)
    one.authentik.users[2]["is_active"] = False
    assert "the user exists and is deactivated" in one.online(ADA, code=1)
    assert one.authentik.mails == [ADA]


def test_two_users_with_the_address_are_left_to_the_administrator(one: Deployment) -> None:
    one.authentik.users |= {number: user(number, f"ada{number}", ADA) for number in (2, 3)}
    assert "2 users have this address" in one.online(ADA, code=1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Response(502), "Authentik does not answer (502): docker compose logs authentik_server"),
        (Response(200, "<html>"), "this is not what Authentik answers"),
        (Response(302, location="https://elsewhere.example/"), "Authentik answers 302"),
    ],
)
def test_what_is_not_authentik_gets_no_user(one: Deployment, answer: Response, words: str) -> None:
    with serving(one.port, lambda _request: answer, (one.out / CHAIN, one.out / KEY)) as requests:
        assert words in ran(one.out, "--invite", ADA, "--online", settings={}, code=1).stderr
    assert len(requests) == 1


def test_a_stack_that_is_down_is_named(one: Deployment) -> None:
    done = ran(one.out, "--invite", ADA, "--online", settings={}, code=1)
    assert f"https://{one.host} does not answer: connection refused. Is the stack up? docker compose ps" in done.stderr


def test_a_foreign_certificate_gets_no_token(one: Deployment, tmp_path: Path) -> None:
    other = Deployment(tmp_path / "other")
    with serving(one.port, one.authentik, (other.out / CHAIN, other.out / KEY)) as requests:
        done = ran(one.out, "--invite", ADA, "--online", settings={}, code=1)
    assert "has a certificate that is not trusted here: " in done.stderr
    assert requests == []


def test_the_script_is_fine_with_shellcheck(one: Deployment) -> None:
    if not shutil.which("shellcheck"):
        lacking("shellcheck is missing (apt-get install shellcheck)")
    text = ran(one.out, "--invite", ADA, "--admin", settings={}).stdout
    done = subprocess.run(["shellcheck", "-s", "sh", "-"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_wrong_words_are_refused(one: Deployment) -> None:
    assert "--invite: 'ada' is not an e-mail address" in ran(one.out, "--invite", "ada", settings={}, code=2).stderr
    assert "--admin goes with --invite" in ran(one.out, "--status", "--admin", settings={}, code=2).stderr
    assert "--online goes with --check or --invite" in ran(one.out, "--online", settings={}, code=2).stderr


def test_an_incomplete_deployment_and_a_foreign_provider_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "configure it first" in ran(tmp_path / "out", "--invite", ADA, settings={}, code=1).stderr
    foreign = Deployment(tmp_path / "foreign", SSO_PROVIDER_URL="https://sso.example.com")
    assert "invite there" in ran(foreign.out, "--invite", ADA, settings={}, code=1).stderr
