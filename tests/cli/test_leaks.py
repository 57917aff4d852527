"""No secret shows: not in what a run says, not in what it leaves, however it was given and whatever goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from setup.cli import main
from setup.config.secrets import SECRETS
from setup.flags import FLAGS
from setup.volume.layout import SECRETS_FOLDER
from tests.support.canaries import BY_MAIL, BY_NAME, DEPLOYMENTS, Canary, canaries, environment, places, seen
from tests.support.runs import ROOT, command, paths, ran, require_strace, run, secrets
from tests.support.terminal import Terminal, environ, walk


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_a_canary_is_seen_in_every_disguise() -> None:
    """The looks of the other tests can fail."""
    wanted = canaries()
    for name, canary in wanted.items():
        for disguise in (canary.text, repr(canary.text), json.dumps(canary.text), canary.text[::-1]):
            assert seen(f"..{disguise}..", wanted) == {name}
    assert not seen("nothing", wanted)


# --- the life of a deployment ---------------------------------------------------------------------------

Given = tuple[tuple[str, ...], dict[str, str]]  # flags and environment of the first run


def by_environment(_out: Path, _folder: Path, wanted: Mapping[str, Canary]) -> Given:
    return (), environment(wanted)


def by_files(_out: Path, folder: Path, wanted: Mapping[str, Canary]) -> Given:
    for name, canary in wanted.items():
        (folder / name).write_text(canary.text)
    return (), {f"{name.upper()}_FILE": str(folder / name) for name in wanted}


def by_configuration(_out: Path, folder: Path, wanted: Mapping[str, Canary]) -> Given:
    (folder / "config.yaml").write_text(yaml.safe_dump(environment(wanted)))
    return ("--config", str(folder / "config.yaml")), {}


def by_hand(out: Path, _folder: Path, wanted: Mapping[str, Canary]) -> Given:
    (out / SECRETS_FOLDER).mkdir(mode=0o700)
    for name, canary in wanted.items():
        (out / SECRETS_FOLDER / name).write_text(canary.text)
    return (), {}


def by_chance(_out: Path, _folder: Path, _wanted: Mapping[str, Canary]) -> Given:
    """Nothing is given: what is generated is what must not show."""
    return (), {}


LIVES = {
    "environment": (by_environment, "by-mail", ()),
    "environment, as JSON": (by_environment, "by-name", ("--json",)),
    "files": (by_files, "by-name", ()),
    "configuration file": (by_configuration, "by-mail", ("--json",)),
    "hand": (by_hand, "by-mail", ()),
    "Swarm": (by_environment, "on-swarm", ()),
    "Kubernetes, as JSON": (by_files, "on-kubernetes", ("--json",)),
    "chance": (by_chance, "by-mail", ()),
    "chance, as JSON": (by_chance, "by-name", ("--json",)),
}


def life(
    out: Path, given: Given, settings: Mapping[str, str], form: tuple[str, ...], other: Mapping[str, Canary]
) -> Iterator[str]:
    """All that is said when it is made, looked at, changed, refused, damaged and reset, and by every verb."""

    def says(*flags: str, code: int | None = 0, **more: str) -> str:
        done = run(out, *flags, *form, settings={**settings, **more})
        assert code in (None, done.returncode), done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    changed = environment(other)
    yield says(*given[0], "--debug", "--save-config", **given[1])
    yield says("--status")
    yield says("--set", "LOG_LEVEL=DEBUG")
    yield says(code=4, **changed)
    yield says(**{key: text for key, text in changed.items() if not SECRETS[key.lower()].bound})
    yield says(code=1, **{key: f"{text}\x01" for key, text in changed.items() if SECRETS[key.lower()].masked})
    env = (out / ".env").read_text()
    (out / ".env").write_text(env.replace("LOG_LEVEL=DEBUG", "LOG_LEVEL=INFO\nMINE=1"))
    yield says("--set", "LOG_LEVEL=ERROR", "--on-conflict", "fail", code=4)
    yield says("--set", "LOG_LEVEL=ERROR", code=4)
    yield says("--set", "SMTP_PORT=26")
    assert (out / ".env.new").exists(), "a merge leaves the conflict open"
    yield says("--set", "LOG_LEVEL=WARNING", "--on-conflict", "replace")
    assert not (out / ".env.new").exists()
    (out / SECRETS_FOLDER / "db_password").rename(out.parent / "lost")
    yield says(code=1)
    yield says("--status")
    (out.parent / "lost").rename(out / SECRETS_FOLDER / "db_password")
    yield says("--reset")
    for flag in FLAGS:
        if flag.is_command:
            for values in [("-",), ("seaweedfs_admin_password",), ("ada@example.com",)] if flag.value else [()]:
                yield says(flag.name, *values, code=None)


@pytest.mark.parametrize("case", LIVES)
@pytest.mark.slow
def test_no_secret_shows_in_the_life_of_a_deployment(out: Path, tmp_path: Path, case: str) -> None:
    way, deployment, form = LIVES[case]
    wanted, other = canaries(), canaries()
    for outcome in life(out, way(out, tmp_path, wanted), DEPLOYMENTS[deployment], form, other):
        made = {name: Canary(text, text) for name, text in secrets(out).items() if SECRETS[name].masked}
        for known in (wanted, other, made):
            assert seen(outcome, known) == set(), outcome
            assert places(out, known) == set()
    assert len(made) > 15


def test_every_secret_had_its_place_in_one_of_these_lives(out: Path, tmp_path: Path) -> None:
    """Else a canary could not have shown."""
    held = set()
    for name, settings in DEPLOYMENTS.items():
        (out / name).mkdir()
        wanted = canaries()
        ran(out / name, settings=settings | environment(wanted))
        held |= {secret for secret, text in secrets(out / name).items() if wanted[secret].token in text}
    assert held == set(SECRETS)


def test_no_private_key_shows_either(out: Path) -> None:
    """Those of the deployment's own certificate stand in their files, and nowhere else."""
    settings = BY_NAME | {"TLS_MODE": "self-signed"}
    outcome = "".join(
        ran(out, *flags, settings=settings).stdout for flags in (("--debug",), ("--status", "--json"), ())
    )
    keys = {path.name: path.read_text().splitlines()[1] for path in (out / "tls" / "private").glob("*.key")}
    wanted = {name: Canary(line, line) for name, line in keys.items()}
    assert len(wanted) == 2
    assert seen(outcome, wanted) == set()
    holding = {path.name for path in paths(out) if path.is_file() and seen(path.read_bytes(), wanted)}
    assert holding == set(wanted)


# --- what a slip of the operator brings into a message ---------------------------------------------------

SLIPPED = ("", ":", "'", '"', "\n", " ", "#", "{", "&", "|", "\t")
SHAPES = ("LOG_LEVEL: INFO\nDB_PASSWORD: {}\nSMTP_PORT: 25\n", "{{DB_PASSWORD: '{}'}}")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.slow
def test_a_slip_in_a_configuration_file_shows_no_secret(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: str
) -> None:
    """One character left out, added or replaced, at every place; PUBLIC_URL is missing, so that nothing is written."""
    wanted = {"db_password": Canary("ca5f00d1e7 hunter: x-2", "ca5f00d1e7")}
    text = shape.format(wanted["db_password"].text)
    path = tmp_path / "config.yaml"
    for place in range(len(text)):
        for char in SLIPPED:
            for slipped in (text[:place] + char + text[place + 1 :], text[:place] + char + text[place:]):
                path.write_text(slipped)
                assert main(["--output-dir", str(out), "--config", str(path)], {}) == 1
                outcome = capsys.readouterr()
                assert not seen(outcome.out + outcome.err, wanted), (slipped, outcome.err)
    assert list(out.iterdir()) == []


# --- faults of the program ------------------------------------------------------------------------------

# What a broken template does with the text of every secret that stands in `.env`.
BROKEN = {
    "an index": "{{ groups[text] }}",
    "a value error": "{{ [].index(text) }}",
    "an inclusion": "{% include text %}",
    "a key error": "{{ {}.pop(text) }}",
    "an attribute": "{{ groups | attr(text) | env }}",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_fault_in_a_template_shows_no_value(out: Path, tmp_path: Path, broken: str) -> None:
    """Their exceptions quote what they looked for, which is a secret for some."""
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    secrets_last = "{% for _, text in groups[-1][1] %}" + BROKEN[broken] + "{% endfor %}"
    (tmp_path / "templates" / "env.j2").write_text(secrets_last)
    wanted = canaries()
    first = {name: wanted[name] for name in SECRETS if SECRETS[name].shown}
    flags = ("--debug", "--templates-dir", str(tmp_path / "templates"))
    done = run(out, *flags, settings=BY_MAIL | environment(first))
    assert done.returncode in (1, 70)
    assert "env.j2" in done.stderr
    assert seen(done.stdout + done.stderr, wanted) == set()
    assert places(out, wanted) == set()


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--debug",)])
def test_a_fault_of_the_program_shows_no_secret(out: Path, flags: tuple[str, ...]) -> None:
    """The kernel refuses random numbers while the secrets that were given are held: nothing expects that."""
    require_strace()
    wanted = {name: canary for name, canary in canaries().items() if name != "seaweedfs_admin_password"}
    prefix = ("strace", "-f", "-qq", "-o", str(out.parent / "trace"), "-e", "inject=getrandom:error=EIO:when=3+")
    settings = BY_MAIL | environment(wanted) | {"PYTHONHASHSEED": "0"}
    done = run(out, *flags, prefix=prefix, settings=settings)
    assert done.returncode == 70
    assert "internal error (OSError at plan.py" in done.stderr
    assert ("in _run" in done.stderr) == bool(flags)
    assert seen(done.stdout + done.stderr, wanted) == set()
    assert places(out, wanted) == set()


# --- the terminal ------------------------------------------------------------------------------------------

# Questions (their beginnings) for secrets, by deployment.
ASKED = {
    "by-mail": {
        "SMTP password": "smtp_password", "Telemetry access key": "telemetry_s3_access_key_id",
        "Telemetry secret key": "telemetry_s3_secret_access_key",
    },
    "by-name": {
        "AWS mail access key": "aws_mail_account_access_key_id",
        "AWS mail secret key": "aws_mail_account_secret_access_key",
    },
}  # fmt: skip
# Without a terminal's name prompt_toolkit, which does not know how to hide there, is not what asks.
TERMS = ("xterm-256color", "vt100", "linux", "dumb", "unknown", "", None, "--plain")


@pytest.mark.parametrize("deployment", ASKED)
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.terminal
def test_what_is_typed_at_a_masked_question_never_comes_back(out: Path, term: str | None, deployment: str) -> None:
    """In every byte that ever reached the terminal, so in its scrollback too; and nothing goes to its clipboard."""
    wanted = canaries()
    plain = term == "--plain"
    env = environ("xterm" if plain else term or "", **DEPLOYMENTS[deployment])
    if term is None:
        del env["TERM"]
    answers = {question: wanted[name].text for question, name in ASKED[deployment].items()}
    with Terminal(command(out, *(["--plain"] if plain else [])), env, cwd=out.parent, columns=200) as terminal:
        asked = walk(terminal, answers=answers)
        assert terminal.ends() == 0, terminal.screen.text()
        shown = terminal.raw
    assert {question for question in answers if any(one.startswith(question) for one in asked)} == set(answers)
    assert all(wanted[name].text == secrets(out)[name] for name in ASKED[deployment].values())
    assert seen(shown, wanted) == set()
    assert places(out, wanted) == set()
    for control in ("\x1b]", "\x1bP", "\x1b_", "\x1b^", "\x1b[?1049", "\x9d", "\x90"):
        assert control not in shown
    if term in ("dumb", "unknown", "", None, "--plain"):
        assert "\x1b" not in shown


def test_the_command_for_a_pending_secret_keeps_it_out_of_the_shells_history(out: Path) -> None:
    """Typed at the command that the last message prints; it arrives unchanged."""
    told = ran(out, settings=BY_NAME).stdout
    wanted = canaries()["aws_mail_account_secret_access_key"]
    command_line = told.splitlines()[-1].strip()
    assert command_line.endswith("--fill")
    history = out.parent / "history"
    env = {**environ(), "PS1": "SHELL> ", "HISTFILE": str(history), "HOME": str(out.parent)}
    with Terminal(["bash", "--norc", "--noediting", "-i"], env, columns=200, cwd=out.parent) as terminal:
        terminal.asks("SHELL> ")
        terminal.answer("set -o history")
        terminal.asks("SHELL> ")
        terminal.answer(command_line)
        while not (question := terminal.question_or_end()).startswith("AWS mail secret key, again"):
            terminal.answer(wanted.text if question.startswith("AWS mail secret key") else "")
        terminal.answer(wanted.text)
        terminal.asks("SHELL> ")
        terminal.keys("exit\r")
        terminal.ends()
        assert wanted.token not in terminal.raw
    assert secrets(out)["aws_mail_account_secret_access_key"] == wanted.text
    assert "--fill" in history.read_text()
    assert wanted.token not in history.read_text()
