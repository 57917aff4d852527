"""Values on their way: what is typed is what the containers get, or it is refused by name.

By batches through `.env` and the compose file, to `docker compose config` and into containers; a share through the
real command, from every source, to each service's environment and `/run/secrets`; and through nginx's configuration.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import subprocess
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from setup.config.secrets import SECRETS
from setup.formats.quoting import quote_env, quote_nginx, quote_yaml
from tests.conftest import missing_docker
from tests.support import engine
from tests.support.hostile import CHOSEN, carried, generated
from tests.support.runs import REQUIRED, paths
from tests.support.runs import run as started
from tests.torture.injection import scratch
from tests.torture.progress import counted
from tests.torture.result import Result

BATCH = 1000  # per value, compose needs no less time for more of them; a container can be handed about twice as many


class Size(NamedTuple):
    """How much is tried: generated texts, batches that are also read in a container, deployments, those as well."""

    texts: int
    contained: int
    deployments: int
    entered: int


SIZES = {True: Size(2200, 1, 6, 1), False: Size(22000, 4, 90, 15)}

Pairs = list[tuple[str, str]]  # a text, and how its target is to write it


def run(sample: bool) -> Result:
    """Tries every way that values take; a machine without Docker fails the layer."""
    if missing_docker():
        return Result(0, [f"no value can be carried here: {missing_docker()}"])
    size = SIZES[sample]
    texts = [*CHOSEN, *generated(size.texts)]
    tallies = []
    with scratch() as folder:
        tallies.append(_in_batches(folder / "batches", texts, size.contained))
        tallies.append(_by_the_command(folder / "deployments", size))
        tallies.append(_by_nginx(folder / "nginx", texts))
    config, inside, nginx, refused = (sum(tally[part] for tally in tallies) for part in range(4))
    note = f"{config} by config, {inside} in containers, {nginx} by nginx; {refused} refused by name"
    return Result(config + inside + nginx, [text for tally in tallies for text in tally.changed], note)


class Tally(NamedTuple):
    """How many values came through each way or were refused, and what was wrong."""

    config: int
    inside: int
    nginx: int
    refused: int
    changed: list[str]


# --- through the quoting alone ------------------------------------------------------------------

COMPOSE = """\
services:
  probe:
    image: {image}
    network_mode: none
    environment:
{lines}"""


def _in_batches(folder: Path, texts: list[str], contained: int) -> Tally:
    """Half of the values stand in `.env`, the others in the compose file itself."""
    by_env, by_yaml = carried(quote_env, texts), carried(quote_yaml, texts)
    config = inside = 0
    changed: list[str] = []
    batches = list(itertools.zip_longest(_batches(by_env), _batches(by_yaml), fillvalue=[]))
    for number, (env, direct) in enumerate(counted(batches, len(batches), "batch")):
        directory = folder / str(number)
        wanted = _written(directory, env, direct)
        read = _by_config(directory)["probe"]["environment"]
        config += len(wanted)
        changed += _differences(f"config, batch {number}", wanted, read)
        if number < contained:
            found = _in_container(directory, "probe", "cat", "/proc/self/environ")
            inside += len(wanted)
            changed += _differences(f"container, batch {number}", wanted, found)
    return Tally(config, inside, 0, len(texts) * 2 - len(by_env) - len(by_yaml), changed)


def _batches(pairs: Pairs) -> Iterator[Pairs]:
    return (pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH))


def _written(directory: Path, env: Pairs, direct: Pairs) -> dict[str, str]:
    """Writes a deployment that carries these values; what each variable must hold."""
    directory.mkdir(parents=True)
    lines = [f"      E{number}: '${{E{number}}}'\n" for number in range(len(env))]
    lines += [f"      Y{number}: {quoted}\n" for number, (_, quoted) in enumerate(direct)]
    dotenv = "".join(f"E{number}={quoted}\n" for number, (_, quoted) in enumerate(env))
    (directory / ".env").write_text(dotenv, encoding="utf-8", newline="")
    text = COMPOSE.format(image=engine.BASE_IMAGE, lines="".join(lines))
    (directory / "docker-compose.yml").write_text(text, encoding="utf-8", newline="")
    wanted = {f"E{number}": text for number, (text, _) in enumerate(env)}
    return wanted | {f"Y{number}": text for number, (text, _) in enumerate(direct)}


# --- through the real command -------------------------------------------------------------------

USER = "SMTP_USERNAME"
ELSEWHERE = ("pepper", "file_jwt_secret_key", "aws_mail_account_access_key_id", "aws_mail_account_secret_access_key")
SECRET_KEYS = [name.upper() for name, one in SECRETS.items() if one.kind.name == "text" and name not in ELSEWHERE]
# Authentik drops blanks at the ends of these, which it reads from files, and tries to follow an address in the others.
UNPADDED = {USER, "SMTP_PASSWORD", "AUTHENTIK_DATABASE_NAME", "AUTHENTIK_DATABASE_USER", "AUTHENTIK_DATABASE_PASSWORD"}
NO_ADDRESS = {"AUTHENTIK_BOOTSTRAP_PASSWORD", "AUTHENTIK_BOOTSTRAP_TOKEN"}
CERTIFICATES = {
    "NGINX_SSL_CERTIFICATE_PATH": "/etc/nginx/tls/server.fullchain.crt",
    "NGINX_SSL_CERTIFICATE_KEY_PATH": "/etc/nginx/tls/private/server.decrypted.key",
}
KEYS = (USER, *CERTIFICATES, *SECRET_KEYS)
SOURCES = ("environment", "KEY_FILE", "configuration file")
# A deployment that has all of these keys.
USUAL = {
    **REQUIRED,
    "AUTH_TYPE": "username",
    "AVATAR_API_VERSION": "2.81",
    "SMTP_HOST": "mail.example.com",
    "TELEMETRY_ENABLED": "true",
    "TELEMETRY_S3_BUCKET_NAME": "bucket",
}

# The variables of the services, and the keys whose values they must hold.
_API = {key: key for key in (USER, "SMTP_PASSWORD", "SSO_CLIENT_ID", "SSO_CLIENT_SECRET", "AUTHENTIK_API_TOKEN",
                             "AUTHENTIK_WEBHOOK_SECRET")}  # fmt: skip
_AUTHENTIK = {
    "AUTHENTIK_BOOTSTRAP_PASSWORD": "AUTHENTIK_BOOTSTRAP_PASSWORD",
    "AUTHENTIK_BOOTSTRAP_TOKEN": "AUTHENTIK_BOOTSTRAP_TOKEN",
    "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_ID": "SSO_CLIENT_ID",
    "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_SECRET": "SSO_CLIENT_SECRET",
    "AVATAR_AUTHENTIK_BLUEPRINT_API_TOKEN": "AUTHENTIK_API_TOKEN",
    "AVATAR_AUTHENTIK_BLUEPRINT_WEBHOOK_SECRET": "AUTHENTIK_WEBHOOK_SECRET",
}
SHOWN = {"api": _API, "init-db": _API, "dask-worker": _API, "authentik_worker": _AUTHENTIK}

# A service of the deployment as it is, but for its image and what it waits for.
PROBE = """\
services:
  {service}:
    image: {image}
    entrypoint: [sh, -c]
    depends_on: !reset null
    networks: !reset null
    network_mode: none
"""
READ = "cat /proc/self/environ; cd /run/secrets; for name in *; do printf '%s=' $name; cat $name; printf '\\0'; done"


def _by_the_command(folder: Path, size: Size) -> Tally:
    """Whole deployments whose every free text is a hostile value, from every source in turn."""
    texts = iter([*CHOSEN, *generated(size.deployments * len(KEYS), seed=20260202)])
    config = inside = refused = 0
    changed: list[str] = []
    for number in counted(range(size.deployments), size.deployments, "deployment"):
        here, source = folder / str(number), SOURCES[number % len(SOURCES)]
        here.mkdir(parents=True)
        given = {key: _fitting(key, source, next(texts)) for key in KEYS}
        unfit = {key for key, text in given.items() if not _is_fit(key, _value(source, text))}
        unfit |= {key for key, text in given.items() if _has_extra(source, key, text)}
        problems = _not_refused(here, source, given, unfit) if unfit else []
        given |= {key: f"plain text for {key}" for key in unfit - CERTIFICATES.keys()}
        given |= {key: f"/{key}" for key in unfit & CERTIFICATES.keys()}
        done = _run(here, source, given)
        if done.returncode:
            problems.append(f"it ended with {done.returncode}: {done.stderr}")
        else:
            meant = {key: _value(source, text) for key, text in given.items()}
            filed = {key: given[key] if _is_exact(source, key) else meant[key] for key in given}
            problems += _compared(here / "out", meant, filed)
        if number < size.entered and not done.returncode:
            tried, wrong = _entered(here / "out", meant, filed)
            inside += tried
            problems += wrong
        refused += len(unfit)
        config += sum(map(len, SHOWN.values())) + len(CERTIFICATES)
        changed += [f"deployment {number}, by {source}: {text}" for text in problems]
    return Tally(config, inside, 0, refused, changed)


def _fitting(key: str, source: str, text: str) -> str:
    """A text as its key and source can have it: paths name a file, no variable holds NUL, blank says nothing."""
    if key in CERTIFICATES:
        name = re.sub(r"[/\\]", "-", text)
        text = f"/certs/{name}.pem"
    if source == "environment":
        text = text.replace("\0", "\x01")
    return "0" if not _value(source, text) or (key == USER and not text.strip()) else text


def _value(source: str, text: str) -> str:
    """A text without what is not part of the value: a mark at its beginning and one line end, told independently."""
    text += "\n" if source == "KEY_FILE" else ""  # as an editor ends it
    return re.sub(r"\A\ufeff|(\r\n|\n|\r)\Z", "", text)


def _is_fit(key: str, text: str) -> bool:
    """Whether a text may be the value of its key, told independently of the program."""
    padded = key in UNPADDED and text != text.strip()
    address = key in NO_ADDRESS and re.match("([A-Za-z][A-Za-z0-9+.-]*:)?//", text)
    broken = address and ("[" in text or "]" in text or max(text) > "\x7f")
    from_a_shell = key in CERTIFICATES and re.search(r"`|\$[({]|/\$[A-Z]", text)
    return _is_free_text(text) and not padded and not broken and not from_a_shell


def _has_extra(source: str, key: str, text: str) -> bool:
    """Whether another tool seems to have added something: quotes in a variable, CR behind what data depends on."""
    if source == "environment":
        return bool(re.fullmatch(r"\ufeff?(?:\".*\"|'.*')(?:\r\n|\n|\r)?", text, re.DOTALL))
    return _is_exact(source, key) and bool(re.search(r"\r(?:\n|\Z)", text))


def _is_exact(source: str, key: str) -> bool:
    """Whether a value is taken to the byte: data of another deployment may need it so."""
    return source == "configuration file" and key.lower() in SECRETS and bool(SECRETS[key.lower()].bound)


def _is_free_text(text: str) -> bool:
    """What free text may be: no control or format characters, not blank, not endless."""
    unwanted = {unicodedata.category(char) for char in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    unwanted |= set(text) & set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # they show nothing either
    return not unwanted and bool(text.strip()) and len(text) <= 4096


def _run(here: Path, source: str, given: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A run of the command that is given these values."""
    out = here / "out"
    out.mkdir(exist_ok=True)
    if source == "environment":
        return started(out, settings=USUAL | given)
    usual = {key: text for key, text in USUAL.items() if key not in given}
    if source == "KEY_FILE":
        for key, text in given.items():  # a mark at its beginning is the file's own, a newline at its end as well
            (here / key).write_bytes(text.encode("utf-8-sig" if text.startswith("\ufeff") else "utf-8") + b"\n")
        return started(out, settings=usual | {f"{key}_FILE": str(here / key) for key in given})
    # YAML takes U+0085 for the end of a line unless it is escaped.
    lines = [yaml.safe_dump({key: text}, allow_unicode="\x85" not in text) for key, text in given.items()]
    (here / "config.yaml").write_text("".join(lines))
    return started(out, "--config", str(here / "config.yaml"), settings=usual)


def _not_refused(here: Path, source: str, given: Mapping[str, str], unfit: set[str]) -> list[str]:
    """What is wrong with a refusal: it names each of these keys and no other, and nothing is written."""
    done = _run(here, source, given)
    named = set(re.findall(r"(?m)^(?:avatar-setup:|  -) ([A-Z][A-Z0-9_]+?)(?:_FILE=|[= ])", done.stderr))
    problems = [f"{key} should be refused: {given[key]!r}" for key in sorted(unfit - named)]
    problems += [f"{key} should not be refused: {given.get(key)!r}" for key in sorted(named - unfit)]
    if done.returncode != 1 or paths(here / "out"):
        problems.append(f"a refusal ended with {done.returncode} and left {paths(here / 'out')}")
    return problems


def _compared(out: Path, given: Mapping[str, str], filed: Mapping[str, str]) -> list[str]:
    """What Compose tells otherwise than it was given, and secret files that hold other bytes."""
    services = _by_config(out)
    problems = []
    for service, variables in SHOWN.items():
        wanted = {name: given[key] for name, key in variables.items()}
        problems += _differences(service, wanted, services[service]["environment"])
    sources = {one["target"]: one["source"] for one in services["nginx"]["volumes"]}
    problems += _differences("nginx", {CERTIFICATES[key]: given[key] for key in CERTIFICATES}, sources)
    files = {name: (out / ".secrets" / name.lower()).read_bytes().decode() for name in SECRET_KEYS}
    return problems + _differences("a file", {key: filed[key] for key in SECRET_KEYS}, files)


def _entered(out: Path, given: Mapping[str, str], filed: Mapping[str, str]) -> tuple[int, list[str]]:
    """How many values the services' containers were asked for, and those that are others there."""
    tried, problems = 0, []
    for service in ("api", "init-db", "authentik_worker"):
        (out.parent / "probe.yml").write_text(PROBE.format(service=service, image=engine.BASE_IMAGE))
        found = _in_container(out, service, READ, files=("docker-compose.yml", "../probe.yml"))
        wanted = {name: given[key] for name, key in SHOWN[service].items()}
        wanted |= {key.lower(): filed[key] for key in SECRET_KEYS if service in SECRETS[key.lower()].services}
        tried += len(wanted)
        problems += _differences(f"the container of {service}", wanted, found)
    return tried, problems


# --- through nginx's configuration --------------------------------------------------------------

NGINX = """\
events {}
http {
  access_log off;
  keepalive_requests 100000;
  server {
    listen 80;
%s  }
}
"""


def _by_nginx(folder: Path, texts: list[str]) -> Tally:
    """Each value as what nginx answers at an address of its own."""
    pairs = carried(quote_nginx, texts)
    locations = "".join(f"    location = /{n} {{ return 200 {quoted}; }}\n" for n, (_, quoted) in enumerate(pairs))
    folder.mkdir()
    (folder / "nginx.conf").write_text(NGINX % locations, encoding="utf-8", newline="")
    options = ("-v", f"{folder / 'nginx.conf'}:/etc/nginx/nginx.conf:ro", "-p", "127.0.0.1::80")
    with engine.container(engine.stand_ins()["nginx"], options=options) as name:
        connection = http.client.HTTPConnection("127.0.0.1", engine.published(name, 80), timeout=30)
        engine.until(f"nginx answers ({engine.logs(name)})", lambda: _get(connection, 0) is not None)
        read = {str(number): _get(connection, number) or "" for number in range(len(pairs))}
        connection.close()
    changed = _differences("nginx", {str(number): text for number, (text, _) in enumerate(pairs)}, read)
    return Tally(0, 0, len(pairs), len(texts) - len(pairs), changed)


def _get(connection: http.client.HTTPConnection, number: int) -> str | None:
    try:
        connection.request("GET", f"/{number}")
        return connection.getresponse().read().decode()
    except OSError:
        connection.close()
        return None


# --- reading back -------------------------------------------------------------------------------


def _by_config(directory: Path) -> dict[str, Any]:
    """The services as `docker compose config` shows them, which doubles each $; it must have nothing to complain."""
    done = engine.docker("compose", "config", "--format", "json", cwd=directory)
    if done.stderr:
        raise AssertionError(done.stderr.decode())
    services: dict[str, Any] = json.loads(done.stdout, object_hook=_undoubled)["services"]
    return services


def _undoubled(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value.replace("$$", "$") if isinstance(value, str) else value for key, value in mapping.items()}


def _in_container(directory: Path, service: str, *words: str, files: Sequence[str] = ()) -> dict[str, str]:
    """What a process of a service finds: NAME=VALUE, each with NUL behind it."""
    compose = ["compose", "-p", engine.unique("carried"), *(word for file in files for word in ("-f", file))]
    try:
        raw = engine.docker(*compose, "run", "--rm", "-T", "--no-deps", service, *words, cwd=directory).stdout
    finally:
        engine.docker(*compose, "down", cwd=directory, check=False)
    return dict(entry.split("=", 1) for entry in raw.decode().split("\0") if entry)


def _differences(where: str, wanted: Mapping[str, str], read: Mapping[str, str]) -> list[str]:
    return [
        f"{where}: {name} is {read.get(name)!r} instead of {text!r}"
        for name, text in wanted.items()
        if read.get(name) != text
    ]
