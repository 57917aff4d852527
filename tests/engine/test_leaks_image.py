"""No secret shows to the engine: not in the image and its history, not in a container, its logs and its layers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.canaries import BY_MAIL, Canary, canaries, environment, places, seen
from tests.support.engine import ROOT, build_inputs, docker, unique
from tests.support.engine import environment as client
from tests.support.runs import lacking, secrets
from tests.support.terminal import Terminal, walk

pytestmark = pytest.mark.docker

IMAGE = "avatar-setup"


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    """The image of this checkout."""
    docker("build", "-q", "-t", IMAGE, ROOT, timeout=900)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "avatar"
    path.mkdir()
    os.chown(path, 1234, 5678)
    return path


@pytest.fixture
def name() -> Iterator[str]:
    """A container's name; what bears it at the end is removed."""
    chosen = unique("leaks")
    yield chosen
    docker("rm", "-f", chosen, check=False)


def variables(values: Mapping[str, str]) -> list[str]:
    return [word for key, text in values.items() for word in ("-e", f"{key}={text}")]


def by_files(folder: Path, wanted: Mapping[str, Canary]) -> tuple[list[str], list[str]]:
    for secret, canary in wanted.items():
        (folder / secret).write_text(canary.text)
        (folder / secret).chmod(0o400)
    named = variables({f"{secret.upper()}_FILE": f"/run/secrets/{secret}" for secret in wanted})
    return ["-v", f"{folder}:/run/secrets:ro", *named], []


def by_configuration(folder: Path, wanted: Mapping[str, Canary]) -> tuple[list[str], list[str]]:
    (folder / "config.yaml").write_text(yaml.safe_dump(environment(wanted)))
    return ["-v", f"{folder}:/given:ro"], ["--config", "/given/config.yaml"]


def by_environment(_folder: Path, wanted: Mapping[str, Canary]) -> tuple[list[str], list[str]]:
    return variables(environment(wanted)), []


def what_the_engine_knows(name: str) -> dict[str, str]:
    """All that it tells about a container; the contents differ from the image's only where `diff` says so."""
    logs = docker("logs", name)
    return {
        "logs": (logs.stdout + logs.stderr).decode(),
        "inspect": docker("inspect", name).stdout.decode(),
        "ps": docker("ps", "-a", "--no-trunc", "-f", f"name={name}").stdout.decode(),
        "diff": docker("diff", name).stdout.decode(),
    }


@pytest.mark.parametrize("way", [by_files, by_configuration, by_environment], ids=lambda way: way.__name__)
def test_a_container_tells_of_no_secret_beyond_what_the_operator_put_there(
    out: Path, tmp_path: Path, name: str, way: object
) -> None:
    """With KEY_FILE or a configuration file nowhere; with -e in its own environment, where it was put."""
    wanted = canaries()
    (tmp_path / "given").mkdir()
    options, flags = way(tmp_path / "given", wanted)  # type: ignore[operator]
    docker("run", "--name", name, "-v", f"{out}:/out", *variables(BY_MAIL), *options, IMAGE, *flags, "--debug")
    assert secrets(out)["db_password"] == wanted["db_password"].text
    assert "db_password" in seen(out.joinpath(".secrets/db_password").read_bytes(), wanted)
    known = what_the_engine_knows(name)
    if way is by_environment:
        inspected = json.loads(known.pop("inspect"))[0]
        assert set(environment(wanted).items()) <= {tuple(one.split("=", 1)) for one in inspected["Config"].pop("Env")}
        known["inspect, but for the environment"] = json.dumps(inspected)
    assert {where: seen(text, wanted) for where, text in known.items()} == {where: set() for where in known}
    assert known["diff"].split() in ([], ["C", "/run", "A", "/run/secrets"], ["A", "/given"]), "only mount points"
    assert places(out, wanted) == set()


def test_a_session_in_a_container_leaves_its_secrets_on_the_volume_only(out: Path, name: str) -> None:
    wanted = canaries()
    answers = {"SMTP password": "smtp_password", "Telemetry access": "telemetry_s3_access_key_id"}
    typed = {question: wanted[secret].text for question, secret in answers.items()}
    words = ["docker", "run", "-it", "--name", name, "-v", f"{out}:/out", *variables(BY_MAIL), IMAGE]
    with Terminal(words, {**client(), "TERM": "xterm"}, columns=200) as terminal:
        walk(terminal, answers=typed)
        assert terminal.ends() == 0
        assert seen(terminal.raw, wanted) == set()
    assert secrets(out)["smtp_password"] == typed["SMTP password"]
    known = what_the_engine_knows(name)
    assert {where: seen(text, wanted) for where, text in known.items()} == {where: set() for where in known}


def test_a_crash_in_a_container_leaves_no_core_dump(out: Path, name: str) -> None:
    """At a question, with secrets given and typed. A shell is process 1 there, as that one is not killed by a fault."""
    wanted = canaries()
    given = {"AUTHENTIK_BOOTSTRAP_TOKEN": wanted["authentik_bootstrap_token"].text}
    options = ["--ulimit", "core=-1", "--workdir", "/out", "-v", f"{out}:/out", "--entrypoint", "sh"]
    docker("run", "--rm", *options, IMAGE, "-c", "python3 -c 'import os; os.abort()'", check=False)
    if not list(out.glob("core*")):
        lacking("the kernel writes no core dump into the working directory (/proc/sys/kernel/core_pattern)")
    for path in out.iterdir():
        path.unlink()
    shell = [*variables(BY_MAIL | given), IMAGE, "-c", "avatar-setup --plain; echo ended with $?"]
    with Terminal(
        ["docker", "run", "-it", "--name", name, *options, *shell], {**client(), "TERM": "xterm"}
    ) as terminal:
        walk(terminal, "Telemetry access key", answers={"SMTP password": wanted["smtp_password"].text})
        processes = docker("top", name, "-eo", "pid,args").stdout.decode().splitlines()
        (process,) = [line.split()[0] for line in processes if "setup/__main__.py" in line]
        os.kill(int(process), signal.SIGSEGV)
        terminal.shows("ended with 139")
        terminal.ends()
    assert list(out.glob("core*")) == []
    assert docker("diff", name).stdout == b""


def test_no_secret_of_a_checkout_or_of_the_builder_gets_into_the_image(tmp_path: Path, name: str) -> None:
    """A deployment and a configuration lie where operators leave them; the builder's environment holds secrets too."""
    wanted = canaries()
    checkout = build_inputs(tmp_path / "checkout")
    text = "\n".join(canary.text for canary in wanted.values())
    for path in (".env", "config.yaml", "avatar/.env", "avatar/.secrets/all", ".git/config", "setup/__pycache__/x.pyc"):
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text(text)
    command = ["docker", "build", "-q", "-t", name, str(checkout)]
    subprocess.run(command, env={**client(), **environment(wanted)}, check=True, capture_output=True, timeout=600)
    try:
        saved = docker("save", name).stdout  # layers are not compressed there
        data = saved + docker("history", "--no-trunc", name).stdout + docker("inspect", name).stdout
    finally:
        docker("rmi", name, check=False)
    assert b"class DeploymentConfigurator" in data and b"ENTRYPOINT" in data, "this looks into it"
    assert [secret for secret, canary in wanted.items() if canary.token.encode() in data] == []
