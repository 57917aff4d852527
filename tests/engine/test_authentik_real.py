"""The generated stack's Authentik, where the real one is at hand; docs/internals/proof.md says when that last was.

The image is `AUTHENTIK_IMAGE`, or the one that the compose file names if the engine has it and it is not the stand-in.
nginx, PostgreSQL and everything of Authentik's come from the generated compose file. A mail server with a certificate
of a private CA, and a receiver in the API's place, stand on the network of the database. Every test runs twice: on a
new database, and on one that was first filled by a blueprint of the public tool's shape.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support import engine
from tests.support.authentik import REASON, Browser, Token, real_image, verified_claims
from tests.support.blueprint import BLUEPRINT
from tests.support.runs import secrets
from tests.support.stack import HOST, Stack, deployment

pytestmark = pytest.mark.docker

PUBLIC_TOOL = Path(__file__).parents[1] / "support" / "public_tool_blueprint.yaml"
FIRST_START = 1500  # seconds: the migrations of a first start, on a machine that is busy
MAIL = "mail.example.test"
# Authentik reads a value of the environment as JSON: this password would arrive as a number.
ACCOUNT = {"SMTP_USERNAME": "1e5", "SMTP_PASSWORD": "12345678"}
PASSWORD = "Correct-horse-battery-9"

# Rows that differ without any change of the configuration.
VOLATILE = "last_updated", "last_applied", "last_login", "expires", "last_used"


class Person(NamedTuple):
    """Somebody who signs in, and the claims that the API is promised about them."""

    name: str
    groups: tuple[str, ...]
    claims: dict[str, Any]
    attributes: Mapping[str, Any] = MappingProxyType({})


PEOPLE = (
    Person(
        "ada",
        ("Octopize - Admins",),
        {"role": "admin", "license": "professional", "is_authentik_superuser": True},
    ),
    Person(
        "grace",
        ("Octopize - Users",),
        {"role": "user", "license": "professional", "is_authentik_superuser": False},
    ),
    Person("joan", (), {"role": "user", "license": None, "is_authentik_superuser": False}),
    # As Octopize's own migration left its administrators: with the role on the user, and a password to be chosen.
    Person(
        "olga",
        ("Octopize - Users",),
        {"role": "admin", "license": "professional", "is_authentik_superuser": False},
        {"role": "admin", "license": "starter"},
    ),
    Person("rosa", (), {"role": "user", "license": "expert"}, {"license": "expert"}),
)


class Platform(NamedTuple):
    """A running Authentik, and the two receivers by their containers' names."""

    stack: Stack
    api: str
    mail: str
    was_filled: bool

    def login(self, name: str) -> str:
        """What somebody signs in with: the public tool's sign-in takes addresses only, and stays where it was."""
        return f"{name}@example.com" if self.was_filled else name

    @property
    def base(self) -> str:
        return self.stack.settings["PUBLIC_URL"]

    def token(self, secret: str) -> Token:
        return Token(self.stack.client, self.base, secrets(self.stack.out)[secret])

    @property
    def admin(self) -> Token:
        return self.token("authentik_bootstrap_token")

    def browser(self) -> Browser:
        return Browser(self.stack.client, self.base)

    def received(self, container: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in engine.logs(container).splitlines() if line.startswith("{")]


def _certificates(directory: Path) -> None:
    """A CA as strict verifiers want it, and the mail server's certificate."""
    (directory / "leaf.ext").write_text(
        f"subjectAltName=DNS:{MAIL}\nbasicConstraints=CA:false\nkeyUsage=digitalSignature\n"
        "extendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n"
    )
    ca = "-x509 -days 30 -subj /CN=Company -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.crt"
    for command in (
        f"req -newkey rsa:2048 -nodes {ca}",
        f"req -newkey rsa:2048 -nodes -subj /CN={MAIL} -keyout mail.key -out mail.csr",
        "x509 -req -in mail.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile leaf.ext -out mail.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)
    (directory / "mail.key").chmod(0o644)


def sql(stack: Stack, statement: str) -> str:
    """What Authentik's database answers; asked in the database's container, because Authentik's image has no client."""
    texts = secrets(stack.out)
    user, name = texts["authentik_database_user"], texts["authentik_database_name"]
    return stack.execute("db", "psql", "-X", "-q", "-A", "-t", "-U", user, "-d", name, "-c", statement).rstrip("\n")


def fill(stack: Stack, override: dict[str, Any]) -> None:
    """Start Authentik with the public tool's blueprint in the place of ours, until it is applied."""
    templates = stack.directory / "templates"
    templates.mkdir()
    for name in ("email_password_reset.html", "email_account_confirmation.html"):
        (templates / name).write_text("{{ url }}")
    sources = {PUBLIC_TOOL: f"/blueprints/{BLUEPRINT.name}", templates: "/templates/email"}
    mounts = [{"type": "bind", "source": str(path), "target": sources[path], "read_only": True} for path in sources]
    worker = override["services"]["authentik_worker"]
    volumes = stack.directory / "volumes.json"
    services = override["services"] | {"authentik_worker": worker | {"volumes": mounts}}
    volumes.write_text(json.dumps({**override, "services": services}))
    stack.compose("up", "-d", "--wait", "authentik_worker", timeout=FIRST_START)

    def is_applied() -> bool:
        """Not by the worker alone, which may fail while everything starts at once; its makers do as this."""
        stack.compose("exec", "-T", "authentik_worker", "ak", "apply_blueprint", BLUEPRINT.name, check=False)
        made = "SELECT count(*) FROM authentik_core_provider WHERE name = 'Provider for Avatar API'"
        return sql(stack, made) == "1"

    engine.until("its blueprint is applied", is_applied, 300)
    volumes.write_text(json.dumps(override))


def ended_well(stack: Stack) -> bool:
    state = stack.containers()["authentik_blueprint"]["State"]
    return (state["Status"], state["ExitCode"]) == ("exited", 0)


@pytest.fixture(scope="module", params=["new", "filled"])
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    image, reason = real_image()
    if not image:
        pytest.skip(f"{REASON}{reason}")
    directory = tmp_path_factory.mktemp("authentik")
    given = directory / "given"
    given.mkdir()
    _certificates(given)
    with deployment(directory) as stack:
        (stack.out / "company-ca.crt").write_bytes((given / "ca.crt").read_bytes())
        stack.configure(
            PUBLIC_URL=f"http://{HOST}:{stack.port}",
            ENV_NAME="proof",
            ORGANIZATION_NAME="Example",
            ADMIN_EMAILS="akadmin@example.com",
            TLS_CA_PATH="./company-ca.crt",
            SMTP_HOST=MAIL,
            SMTP_SENDER_EMAIL="avatar@example.com",
            **ACCOUNT,
        )
        names = list(json.loads(stack.compose("config", "--format", "json"))["services"])
        ours = [name for name in names if name.startswith("authentik_")]
        volumes = directory / "volumes.json"
        images = {name: {"image": image} for name in ours if name != "authentik_init_db"}
        override = {**json.loads(volumes.read_text()), "services": images}
        volumes.write_text(json.dumps(override))
        stack.compose("up", "-d", "--wait", "authentik_init_db", "db", check=False)
        receivers = Path(__file__).parents[1] / "support" / "receivers.py"
        options = ["--network", f"{stack.project}_database", "-v", f"{receivers}:/receivers.py:ro"]
        run = ("python3", "/receivers.py")
        with (
            engine.container(
                engine.echo_image(), *run, "http", "8000", options=[*options, "--network-alias", "api"]
            ) as api,
            engine.container(
                engine.echo_image(),
                *(*run, "smtp", "587", "/given/mail.crt", "/given/mail.key"),
                options=[*options, "--network-alias", MAIL, "-v", f"{given}:/given:ro"],
            ) as mail,
        ):
            if request.param == "filled":
                fill(stack, override)
            stack.compose("up", "-d", *ours, timeout=FIRST_START)
            engine.until("authentik_blueprint has ended well", lambda: ended_well(stack), 900)
            stack.compose("up", "-d", "--no-deps", "nginx")
            engine.until("nginx answers", stack.client.answers)
            yield Platform(stack, api, mail, request.param == "filled")


@pytest.fixture(scope="module")
def people(platform: Platform) -> dict[str, dict[str, Any]]:
    """Name -> the user that Authentik's API made."""
    groups = {row["name"]: row["pk"] for row in platform.admin.results("core/groups/?page_size=100")}
    made = {}
    for person in PEOPLE:
        user = platform.admin.change(
            "core/users/",
            username=person.name,
            name=person.name.title(),
            email=f"{person.name}@example.com",
            attributes=dict(person.attributes),
            groups=[groups[name] for name in person.groups],
            type="internal",
        )
        platform.admin.change(f"core/users/{user['pk']}/set_password/", password=PASSWORD)
        made[person.name] = user
    return made


# --- The blueprint ----------------------------------------------------------------------------------------


def test_the_blueprint_applies_within_the_first_start(platform: Platform) -> None:
    def status() -> str:
        if platform.admin.ask("admin/version/").status != 200:
            return "not even the bootstrap token is known"
        rows = platform.admin.results("managed/blueprints/?page_size=100")
        return next((str(row["status"]) for row in rows if row["path"] == BLUEPRINT.name), "not found")

    engine.until("the blueprint is applied", lambda: status() == "successful", 120)


def rows(platform: Platform) -> dict[str, str]:
    """Table -> a digest of its rows, for every table of Authentik's configuration."""
    listed = sql(
        platform.stack,
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'authentik\\_%'"
        " AND tablename !~ '(task|event|session|log|cache|install|reputation|outpost|blueprintinstance)'",
    ).split()
    volatile = " ".join(f"- '{name}'" for name in VOLATILE)
    union = " UNION ALL ".join(
        f"SELECT '{table}', md5(coalesce(string_agg((to_jsonb(t) {volatile})::text, '' ORDER BY t::text), ''))"
        f' FROM "{table}" t'
        for table in listed
    )
    found = sql(platform.stack, union)
    return dict(line.split("|", 1) for line in found.splitlines())


def settled(platform: Platform) -> dict[str, str]:
    """The rows once the worker has applied every blueprint, and two readings, ten seconds apart, agree."""
    seen = [rows(platform)]
    waiting = "SELECT count(*) FROM authentik_blueprints_blueprintinstance WHERE enabled AND status = 'unknown'"

    def unchanged() -> bool:
        time.sleep(10)
        seen.append(rows(platform))
        return seen[-1] == seen[-2] and sql(platform.stack, waiting) == "0"

    engine.until("Authentik has applied its own blueprints", unchanged, 300)
    return seen[-1]


def test_it_applies_again_without_a_change(platform: Platform) -> None:
    before = settled(platform)
    assert {"authentik_core_user", "authentik_core_group", "authentik_brands_brand"} <= before.keys()
    platform.stack.compose("run", "--rm", "--no-deps", "-T", "authentik_blueprint")
    assert rows(platform) == before


# --- Sign-in ----------------------------------------------------------------------------------------------


def signed_in_claims(platform: Platform, name: str, password: str) -> dict[str, Any]:
    """The verified claims of a person's id token, by way of sign-in, authorization and token."""
    texts = secrets(platform.stack.out)
    browser = platform.browser()
    assert browser.sign_in(platform.login(name), password)["component"] == "xak-flow-redirect"
    redirect_uri = f"{platform.base}/api/login/sso/auth"
    asked = {
        "response_type": "code",
        "client_id": texts["sso_client_id"],
        "redirect_uri": redirect_uri,
        "scope": "openid email offline_access profile",
        "state": "a state",
        "nonce": "a nonce",
    }
    given = browser.authorize(asked)
    assert given["state"] == ["a state"], given
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    client = {"client_id": texts["sso_client_id"], "client_secret": texts["sso_client_secret"]}
    code = {"grant_type": "authorization_code", "code": given["code"][0], "redirect_uri": redirect_uri}
    tokens = platform.browser().ask("/sso/application/o/token/", "POST", client | code, form).seen
    assert tokens["expires_in"] == 300
    renewed = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert platform.browser().ask("/sso/application/o/token/", "POST", client | renewed, form).seen["access_token"]
    keys = platform.browser().ask("/sso/application/o/avatar-api/jwks/").seen["keys"]
    claims = verified_claims(tokens["id_token"], keys)
    assert claims["iss"] == f"{platform.base}/sso/application/o/avatar-api/"
    assert (claims["aud"], claims["nonce"]) == (texts["sso_client_id"], "a nonce")
    return claims


@pytest.mark.parametrize("person", PEOPLE, ids=[person.name for person in PEOPLE])
def test_a_sign_in_gives_the_documented_claims(
    platform: Platform, people: dict[str, dict[str, Any]], person: Person
) -> None:
    claims = signed_in_claims(platform, person.name, PASSWORD)
    assert {name: claims.get(name) for name in person.claims} == person.claims
    assert claims["sub"] == people[person.name]["uuid"]
    assert claims["email"] == f"{person.name}@example.com"


def test_the_bootstrap_account_opens_avatar_as_an_administrator(platform: Platform) -> None:
    claims = signed_in_claims(platform, "akadmin", secrets(platform.stack.out)["authentik_bootstrap_password"])
    expected = {"role": "admin", "license": "expert", "is_authentik_superuser": True, "email": "akadmin@example.com"}
    assert {name: claims.get(name) for name in expected} == expected


def test_a_foreign_redirect_is_refused(platform: Platform, people: dict[str, dict[str, Any]]) -> None:
    browser = platform.browser()
    browser.sign_in(platform.login("grace"), PASSWORD)
    fields = {
        "response_type": "code",
        "client_id": secrets(platform.stack.out)["sso_client_id"],
        "redirect_uri": f"{platform.base}/api/login/sso/auth/evil",
        "scope": "openid",
    }
    answer = browser.ask(f"/sso/application/o/authorize/?{urllib.parse.urlencode(fields)}")
    assert answer.status in {400, 403}
    assert not answer.all("Location")


# --- The API's account ------------------------------------------------------------------------------------


def test_the_api_token_reads_users_and_nothing_else(platform: Platform, people: dict[str, dict[str, Any]]) -> None:
    api = platform.token("authentik_api_token")
    assert {user["username"] for user in api.results("core/users/?page_size=100")} >= {*people, "akadmin", "avatar-api"}
    number = people["joan"]["pk"]
    assert api.get(f"core/users/{number}/")["uuid"] == people["joan"]["uuid"]
    others = (
        *("core/groups/", "core/applications/all", "core/brands/", "rbac/roles/", "flows/instances/", "events/events/"),
        *("providers/oauth2/", "stages/all/", "policies/all/", "managed/blueprints/", "crypto/certificatekeypairs/"),
        *("admin/system/", "events/transports/", "propertymappings/all/"),
    )
    statuses = {path: api.ask(path).status for path in others}
    assert set(statuses.values()) <= {403, 404}, statuses
    writes = (
        ("core/users/", "POST", {"username": "eve", "name": "Eve", "groups": []}),
        (f"core/users/{number}/", "PATCH", {"name": "Eve"}),
        (f"core/users/{number}/", "DELETE", None),
        (f"core/users/{number}/set_password/", "POST", {"password": "eve"}),
        (f"core/users/{number}/recovery/", "POST", {}),
        (f"core/users/{number}/impersonate/", "POST", {"reason": "eve"}),
    )
    refused = {(path, method): api.ask(path, method, fields).status for path, method, fields in writes}
    assert set(refused.values()) <= {401, 403, 404}, refused
    assert platform.admin.get(f"core/users/{number}/")["name"] == "Joan"


# --- User events ------------------------------------------------------------------------------------------


def test_user_events_reach_the_webhook(platform: Platform) -> None:
    def actions() -> list[tuple[str | None, str]]:
        bodies = [json.loads(delivery["body"]) for delivery in platform.received(platform.api)]
        return [(body["user_uuid"], body["action"]) for body in bodies]

    user = platform.admin.change("core/users/", username="temporary", name="Temporary", groups=[])
    platform.admin.change(f"core/users/{user['pk']}/", "PATCH", name="Renamed")
    engine.until("the change arrives", lambda: (user["uuid"], "model_updated") in actions(), 120)
    # Only now: the uuid is looked up when the event is sent, and is null once the user is gone.
    platform.admin.change(f"core/users/{user['pk']}/", "DELETE")
    engine.until("the deletion arrives", lambda: (None, "model_deleted") in actions(), 120)
    time.sleep(5)  # a second delivery would be on its way
    assert actions().count((None, "model_deleted")) == 1
    secret = secrets(platform.stack.out)["authentik_webhook_secret"]
    for delivery in platform.received(platform.api):
        assert delivery["path"] == "/internal/authentik/user-events"
        assert delivery["headers"]["authorization"] == f"Bearer {secret}"
        assert json.loads(delivery["body"]).keys() == {"user_uuid", "action", "body"}


# --- Recovery ---------------------------------------------------------------------------------------------


def test_the_sign_in_page_links_the_recovery(platform: Platform) -> None:
    for slug in {"default-authentication-flow", platform.browser().sign_in_flow()}:
        challenge = platform.browser().flow(slug, {})
        assert challenge["component"] == "ak-stage-identification"
        assert "/if/flow/avatar-recovery-flow/" in challenge["recovery_url"]


def links_in(platform: Platform, mail: str) -> set[str]:
    """The links to the recovery flow in the text of a mail."""
    text = mail.replace("=\n", "").replace("=3D", "=").replace("&amp;", "&")
    return set(
        re.findall(rf"{re.escape(platform.base)}/sso/if/flow/avatar-recovery-flow/\?\S*?flow_token=[\w-]+", text)
    )


def recover(platform: Platform, name: str, password: str) -> dict[str, Any]:
    """Ask for the recovery mail and follow its link, which asks for a password once; the mail."""

    def mails() -> list[dict[str, Any]]:
        return [mail for mail in platform.received(platform.mail) if f"<{name}@example.com>" in mail["recipients"][0]]

    identification = {"ak-stage-identification": {"uid_field": f"{name}@example.com"}}
    assert platform.browser().flow("avatar-recovery-flow", identification)["component"] == "ak-stage-email"
    engine.until("the mail arrives", lambda: bool(mails()), 120)
    (link,) = links_in(platform, mails()[-1]["text"])
    answers = {"ak-stage-consent": {}, "ak-stage-prompt": {"password": password, "password_repeat": password}}
    query = urllib.parse.urlsplit(link).query
    recovered = platform.browser().flow("avatar-recovery-flow", answers, query)
    assert recovered["component"] == "xak-flow-redirect", recovered
    return mails()[-1]


def test_the_recovery_mail_arrives_and_its_link_sets_a_password(
    platform: Platform, people: dict[str, dict[str, Any]]
) -> None:
    changed = "Another-staple-8"
    mail = recover(platform, "joan", changed)
    assert mail["account"] == list(ACCOUNT.values())
    assert "<avatar@example.com>" in mail["sender"]
    login = platform.login("joan")
    assert platform.browser().sign_in(login, changed)["component"] == "xak-flow-redirect"
    assert platform.browser().sign_in(login, PASSWORD)["component"] == "ak-stage-password"


# --- After the public tool --------------------------------------------------------------------------------


def test_who_was_migrated_chooses_a_password_once(platform: Platform, people: dict[str, dict[str, Any]]) -> None:
    """The public tool's sign-in sends them to the recovery for as long as they have its mark."""
    if not platform.was_filled:
        pytest.skip("only the public tool migrates people")
    user = f"core/users/{people['olga']['pk']}/"
    attributes = {**platform.admin.get(user)["attributes"], "must_reset_password": True}
    platform.admin.change(user, "PATCH", attributes=attributes)
    sent_away = platform.browser().sign_in("olga@example.com", PASSWORD)
    assert "/if/flow/avatar-recovery-flow/" in sent_away["to"]
    changed = "Another-staple-8"
    recover(platform, "olga", changed)
    assert platform.admin.get(user)["attributes"] == {"role": "admin", "license": "starter"}
    assert platform.browser().sign_in("olga@example.com", PASSWORD)["component"] == "ak-stage-password"
    assert signed_in_claims(platform, "olga", changed)["role"] == "admin"


def test_nothing_is_there_twice(platform: Platform) -> None:
    """Nor names a template that is not mounted; the API's account has one token, which a rotation replaces."""
    admin = platform.admin
    (provider,) = admin.results("providers/oauth2/")
    (application,) = admin.results("core/applications/?superuser_full_list=true")
    assert (provider["name"], application["provider"]) == ("Octopize Avatar", provider["pk"])
    brands = [brand for brand in admin.results("core/brands/") if brand["domain"] != "authentik-default"]
    assert [brand["domain"] for brand in brands] == [urllib.parse.urlsplit(platform.base).netloc]
    tokens = admin.results("core/tokens/?user__username=avatar-api")
    assert [token["identifier"] for token in tokens] == ["avatar-api"]
    rules = [rule["name"] for rule in admin.results("events/rules/") if not rule["name"].startswith("default-")]
    assert rules == ["avatar-user-events"]
    bindings = admin.results("flows/bindings/?ordering=order&page_size=100")
    (flow,) = admin.results("flows/instances/?slug=avatar-recovery-flow")
    stages = [binding["stage_obj"]["name"] for binding in bindings if binding["target"] == flow["pk"]]
    assert stages == [f"avatar-recovery-{part}" for part in ("identification", "email", "password", "write", "login")]
    templates = {stage["template"] for stage in admin.results("stages/email/")}
    assert templates <= {"email/password_reset.html", "email/account_confirmation.html"}


# --- Inviting ---------------------------------------------------------------------------------------------


def test_somebody_who_is_invited_chooses_a_password_and_signs_in(platform: Platform) -> None:
    out, address = platform.stack.out, "mary@example.com"
    network = ("--network", "host", "--add-host", f"{HOST}:127.0.0.1")
    command = (
        "run",
        "--rm",
        *network,
        "-v",
        f"{out}:/out:ro",
        engine.image(),
        "--invite",
        address,
        "--admin",
        "--online",
    )
    mails = len(platform.received(platform.mail))
    shown = engine.docker(*command).stdout.decode()
    assert f"Made {address} in the group Octopize - Admins." in shown
    engine.until("the mail arrives", lambda: len(platform.received(platform.mail)) > mails, 120)
    mail = platform.received(platform.mail)[-1]
    assert f"<{address}>" in mail["recipients"][0]
    (link,) = links_in(platform, mail["text"])
    passwords = {"password": PASSWORD, "password_repeat": PASSWORD}
    query = urllib.parse.urlsplit(link).query
    answers = {"ak-stage-consent": {}, "ak-stage-prompt": passwords}
    chosen = platform.browser().flow("avatar-recovery-flow", answers, query)
    assert chosen["component"] == "xak-flow-redirect", chosen
    assert platform.browser().sign_in(address, PASSWORD)["component"] == "xak-flow-redirect"
    (user,) = platform.admin.results(f"core/users/?username={address}")
    assert (user["type"], [group["name"] for group in user["groups_obj"]]) == ("internal", ["Octopize - Admins"])
    assert f"{address} exists already" in engine.docker(*command).stdout.decode()
    script = engine.docker(*command[:-1]).stdout
    assert secrets(out)["authentik_bootstrap_token"].encode() not in script
