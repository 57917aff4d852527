"""The plain part of YAML: it is read as PyYAML reads it, or not at all, and PyYAML reads what is written."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from setup.formats import yaml_file
from setup.formats.plain_yaml import dump_plain, read_plain
from setup.formats.yaml_file import Malformed, load_yaml
from tests.support.runs import ROOT

_STATE = """\
# a comment
tool: avatar-setup
steps:
  finalize: completed
answers:
  PORT:
    value: '8443'
    source: environment
  EMPTY: ""
accepted:
- ENV_NAME
- "PORT"
files: {}
again: []
deeper:
    list:
      - a:b
      - https://x.example.com/y
    nothing:
none: null
...
"""


def test_a_state_is_read() -> None:
    assert read_plain(_STATE) == {
        "tool": "avatar-setup",
        "steps": {"finalize": "completed"},
        "answers": {"PORT": {"value": "8443", "source": "environment"}, "EMPTY": ""},
        "accepted": ["ENV_NAME", "PORT"],
        "files": {},
        "again": [],
        "deeper": {"list": ["a:b", "https://x.example.com/y"], "nothing": None},
        "none": None,
    }


def test_the_packaged_defaults_are_plain() -> None:
    assert read_plain((ROOT / "setup" / "defaults.yaml").read_text())


@pytest.mark.parametrize(
    "text",
    [
        "", "# only a comment\n", "A: 1\nA: 2\n", "A: b c\n", "A: b: c\n", "A: b:\n", "A: 1\n  B: 2\n",
        "A:\n  B: 1\n C: 2\n", "A:\n- b\n c\n", "A:\n- b\n  C: d\n", "A: 1\n- b\n", "- b\n", "A: &x 1\n", "A: *x\n",
        "A: !!str 1\n", "A: ~\n", "null: 1\n", "A: é\n", "# é\n", "A:\t1\n", "A: 1\r\n", "# a\rB: 1\n",
        "A: 'it''s'\n", 'A: "a\\tb"\n', "A: |\n  b\n", "A: [b]\n", "A: 1 # b\n", "A: 1\n...\nB: 2\n",
        "A: 1\n---\nB: 2\n", "<<: 1\n", "A: -\n", "A: - b\n", "? A\n", "A: %b\n", "A: @b\n",
        "".join(f"{' ' * depth}A:\n" for depth in range(10)),
    ],
    ids=repr,
)  # fmt: skip
def test_everything_else_is_left_to_pyyaml(text: str) -> None:
    assert read_plain(text) is None


_CHANGES = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 2), st.text("aN:-#\"'[]{} \n.,~&|\t\r\\é0", max_size=3)), max_size=4
)


@given(_CHANGES, st.integers(0, 20))
def test_what_is_read_is_what_pyyaml_reads(changes: list[tuple[int, int, str]], first: int) -> None:
    text = "\n".join(_STATE.split("\n")[first:])
    for place, left_out, added in changes:
        text = text[: place % (len(text) + 1)] + added + text[place % (len(text) + 1) + left_out :]
    plain = read_plain(text)
    if plain is not None:
        assert plain == _by_pyyaml(text)


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_DOCUMENTS = st.dictionaries(
    st.text("abcXYZ_./-", min_size=1, max_size=8),
    st.recursive(_TEXTS | st.lists(_TEXTS, max_size=3), lambda inner: st.dictionaries(_TEXTS, inner, max_size=3)),
    min_size=1,
    max_size=4,
)


@given(_DOCUMENTS)
def test_what_is_written_comes_back(document: dict[str, object]) -> None:
    text = dump_plain(document)
    assert yaml.safe_load(text) == document
    assert load_yaml(text.encode()) == document


@pytest.mark.parametrize(
    "text", ["true", "No", "null", "1", "1.0", "0x1", "2024-01-01", "~", "=", "<<", "", "-", "a: b"]
)
def test_a_text_stays_one(text: str) -> None:
    assert yaml.safe_load(dump_plain({"A": text, "B": [text]})) == {"A": text, "B": [text]}


def _by_pyyaml(text: str) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_file, "read_plain", lambda _: None)
        try:
            return load_yaml(text.encode())
        except Malformed as error:
            return error
