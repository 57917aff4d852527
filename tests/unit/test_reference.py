"""Generated text is current, and the files that list settings by hand list all of them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.generate import texts
from docs.recordings import RECORDINGS
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.sources import CONTROLS, gather
from tests.support.documents import read_yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generated():
    """Path -> what should stand there; a session is recorded for it."""
    return {path.relative_to(ROOT).as_posix(): text for path, text in texts().items()}


GENERATED = (
    ".env.example",
    "README.md",
    "config.example.yaml",
    "docs/reference/command-line.md",
    "docs/reference/config.schema.json",
    "docs/reference/secrets.md",
    "docs/reference/settings.md",
    *(
        f"docs/sessions/{name}.{form}"
        for name in ("certificate", "change", "express", "fill")
        for form in ("svg", "txt")
    ),
)


def test_generated_text_is_current(generated):
    stale = [path for path in GENERATED if (ROOT / path).read_text() != generated[path]]
    assert not stale, "run `make reference`"


def test_every_generated_text_is_looked_at(generated):
    assert sorted(generated) == list(GENERATED)


@pytest.mark.parametrize("name", [recording.name for recording in RECORDINGS])
def test_a_recorded_session_is_the_same_everywhere(generated, name):
    """Neither a path of this machine, nor who ran it, nor what was typed at a password; and it ends well."""
    text = generated[f"docs/sessions/{name}.txt"]
    assert not [word for word in ("/tmp", str(ROOT), "sudo", "\x1b", "\r", "battery") if word in text]
    assert text.endswith("\n  docker compose up -d\n")
    assert ElementTree.fromstring(generated[f"docs/sessions/{name}.svg"]).tag.endswith("svg")


def test_the_recordings_show_what_they_are_for(generated):
    assert "PUBLIC_URL = avatar.mycompany.com  (answer)" in generated["docs/sessions/express.svg"]
    assert "✓ smtp_password" in generated["docs/sessions/fill.svg"]
    assert "it covers www.example.com" in generated["docs/sessions/certificate.svg"]
    assert "LOG_LEVEL: (default) -&gt; DEBUG (--set)" in generated["docs/sessions/change.svg"]


def test_the_examples_are_accepted_as_they_stand(tmp_path, generated):
    """Every line of the example configuration, uncommented, is a known key with a value that parses."""
    lines = generated["config.example.yaml"].splitlines()
    keys = [line.removeprefix("# ") for line in lines if line.removeprefix("# ").partition(":")[0] in SETTINGS]
    assert len(keys) == len(SETTINGS)
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(keys))
    inputs = gather({}, str(path), None, {}, {})
    assert not inputs.problems
    for key, given in inputs.layers[2].items():
        if given.text:
            SETTINGS[key].kind.parse(given.text)


def test_the_schema_knows_every_key_and_no_other(generated):
    schema = json.loads(generated["docs/reference/config.schema.json"])
    assert set(schema["properties"]) == {*SETTINGS, *SECRETS}
    assert schema["additionalProperties"] is False


def test_compose_yaml_hands_on_every_setting_and_secret():
    """The project's own compose.yaml lists names by hand, as compose has no way to hand on all of them."""
    document = read_yaml((ROOT / "compose.yaml").read_text())
    handed_on = set(document["services"]["setup"]["environment"])
    assert handed_on == {*SETTINGS, *map(str.upper, SECRETS), *CONTROLS}, "compose.yaml lists every name"
