"""`.env` is read as Compose reads it: compared with `docker compose config`, over chosen and generated files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from setup.formats.dotenv import parse
from setup.formats.quoting import quote_env
from setup.formats.yaml_file import Malformed
from tests.support import engine
from tests.support.hostile import CHOSEN, carried

NAMES = [f"V{number}" for number in range(8)]

CERTAIN = {
    "V0=x": "x",
    "V0 = x ": "x",
    "V0: x": "x",
    "export\tV0=x": "x",
    "\ufeffV0=x": "x",
    "V0=x\r\nV1=y\r\n": "x",
    "V0=x #c": "x",
    "V0=x#c": "x#c",
    "V0=  #c": "#c",
    'V0="x # y" # z': "x # y",
    "V0='x\\'y\\n'": "x'y\\n",
    'V0="x\\ny\\t\\\\\\"\\$V1"': 'x\ny\t\\"$V1',
    'V0="x\ny"': "x\ny",
    "V0=1\nV0=2": "2",
    "V1=a b\nV0=$V1-${V1}": "a b-a b",
    "V1=\nV0=${V1:-d}${V1-e}${V1:+f}${V1+g}": "dg",
    "V1='$V2'\nV0=$V1": "$V2",
    "V0=a$1b$": "a$1b$",
    "V0=$$V1": "$V1",
    "V1=x\nV0=\\$V1": "\\x",
    "V0=s3://{user_id}/{expire_days}d # for seaweedfs": "s3://{user_id}/{expire_days}d",
    "V0=": "",
}
UNSURE = {
    "V0=${HOME}/shared": "HOME",
    "V0=$V1\nV1=x": "V1",
    "V0=${V1:-d}": "V1",
    "V1=x\nV0=${V1:-$V1}": "form",
    "V0\nV1=x": "no value",
    'V0="\\0101"': "octal",
    "V0='a\r\nb'": "carriage return",
    "V1=$HOME\nV0=$V1": "V1",
    "V1=\nV0=${V1:?gone}": "V1",
}
REFUSED = ("V0='x", 'V0="x\\', "V 0=x", "=x", "V0='it''s'", 'V0="a"; V1=b', "V0=x\0", "V0={\n{", b"V0=\xff")


@pytest.mark.parametrize("text", CERTAIN)
def test_what_a_file_says(text: str) -> None:
    assert parse(text.encode()).values["V0"] == CERTAIN[text]
    assert parse(text.encode()).unsure == {}


@pytest.mark.parametrize("text", UNSURE)
def test_what_a_file_does_not_tell_is_named(text: str) -> None:
    env = parse(text.encode())
    assert "V0" not in env.values
    assert UNSURE[text] in env.unsure["V0"]


def test_a_later_line_settles_what_an_earlier_one_left_open() -> None:
    assert parse(b"V0=$HOME\nV0=x") == ({"V0": "x"}, {})
    assert parse(b"V0=x\nV0=$HOME").values == {}


@pytest.mark.parametrize("text", REFUSED)
def test_a_file_that_compose_refuses_is_refused_with_its_line_and_never_its_text(text: str | bytes) -> None:
    with pytest.raises(Malformed) as refused:
        parse(b"# one\n" + (text if isinstance(text, bytes) else text.encode()))
    assert "V0" not in str(refused.value)
    assert "line" in str(refused.value) or "UTF-8" in str(refused.value)


def test_what_this_program_writes_is_read_back() -> None:
    pairs = carried(quote_env, CHOSEN)
    env = parse("".join(f"V{number}={quoted}\n" for number, (_, quoted) in enumerate(pairs)).encode())
    assert list(env.values.values()) == [text for text, _ in pairs]


def by_compose(data: bytes, directory: Path) -> dict[str, str] | None:
    """What `docker compose config` shows for each name that the file sets, None where it refuses the file."""
    lines = "".join(f'      {name}: "${{{name}-<unset>}}"\n' for name in NAMES)
    (directory / "docker-compose.yml").write_text(f"services:\n  p:\n    image: x\n    environment:\n{lines}")
    (directory / ".env").write_bytes(data)
    done = engine.docker("compose", "config", "--format", "json", cwd=directory, check=False)
    if done.returncode:
        return None
    shown = json.loads(done.stdout)["services"]["p"]["environment"]
    return {name: text.replace("$$", "$") for name, text in shown.items() if text != "<unset>"}


@pytest.mark.docker
@pytest.mark.parametrize("text", CERTAIN)
def test_compose_reads_the_same(text: str, tmp_path: Path) -> None:
    assert by_compose(text.encode(), tmp_path) == parse(text.encode()).values


@pytest.mark.docker
@pytest.mark.parametrize("text", [text for text in REFUSED if isinstance(text, str)])
def test_compose_refuses_the_same(text: str, tmp_path: Path) -> None:
    assert by_compose(text.encode(), tmp_path) is None


PIECES = (
    *(
        "a",
        "x y",
        " ",
        "  ",
        "#",
        " #",
        "\t",
        "$",
        "$$",
        "\\",
        "\\\\",
        "\\n",
        '\\"',
        "\\'",
        '"',
        "'",
        "=",
        ":",
        "{",
        "}",
    ),
    *("${V0}", "$V1", "${V2:-d}", "${V3-e}", "${V4:+f}", "$9", "é", "\xa0", "\r", "%", "\\$", "\\t", "\n", "{user_id}"),
    *("$V", "\u2028", ";", "`", "!", "\\c", "\\x", "\u212a"),
)


def generated(dice: random.Random) -> str:
    """A file of eight keys whose values are made of everything that means something to Compose."""
    text = ""
    for name in NAMES:
        quote = dice.choice(("", "", '"', "'"))
        body = "".join(dice.choice(PIECES) for _ in range(dice.randint(0, 6)))
        body = body.replace(quote or "\n", "") if dice.random() < 0.9 or not quote else body
        text += dice.choice(("", "", "\n", '# c $X "\n')) + dice.choice(("", "  ", "export ")) + name
        text += dice.choice(("=", " = ", ": ")) + quote + body + quote + dice.choice(("", " ", " # c")) + "\n"
    return text


@pytest.mark.docker
def test_compose_reads_generated_files_the_same(tmp_path: Path) -> None:
    """Every value that is read is Compose's; what Compose refuses is refused, or some key of it is left open."""
    dice, compared, problems = random.Random(6), 0, []
    for _ in range(150):
        text = generated(dice)
        theirs = by_compose(text.encode(), tmp_path)
        try:
            env = parse(text.encode())
        except Malformed:
            problems += [f"refused, but Compose reads it: {text!r}"] if theirs is not None else []
            continue
        if theirs is None:
            problems += [] if env.unsure else [f"read, but Compose refuses it: {text!r}"]
            continue
        compared += len(env.values)
        problems += [f"{name} of {text!r}" for name, value in env.values.items() if theirs.get(name) != value]
        problems += [f"{name} of {text!r} is missing" for name in theirs.keys() - env.values.keys() - env.unsure.keys()]
    assert problems == []
    assert compared > 400
