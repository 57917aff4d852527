"""The three-way merge of `.env`: nobody's change is lost, nobody's is made up, and twice is as good as once."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setup.deploy.targets import Parts, Targets
from setup.deploy.templates import Renderer
from setup.formats import dotenv
from setup.formats.dotenv import MARKER as END
from setup.formats.dotenv_merge import merge
from setup.formats.quoting import quote_env
from setup.formats.yaml_file import Malformed
from setup.state_manager import split_additions
from setup.volume.layout import ENV
from tests.support.deployments import values
from tests.support.runs import ROOT

KEYS = ("A", "B", "C", "D", "E_1", "long.key-2")
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ["", "#", "'", '"', "$A", "x y", "\n"]
)
VALUES = st.dictionaries(st.sampled_from(KEYS), TEXTS.map(quote_env))


def rendered(lines: dict[str, str], *comments: str) -> bytes:
    """A file as ours looks, with these lines."""
    text = "# ours\n\n" + "".join(f"{key}={value}\n" for key, value in lines.items())
    return text.encode() + "".join(f"{comment}\n" for comment in comments).encode() + b"\n" + END


def keys_of(data: bytes) -> dict[str, str]:
    return {one.key: one.text.strip() for one in dotenv.statements(data) if one.key}


def merged(base: bytes, theirs: bytes, ours: bytes) -> bytes:
    found = merge(base, theirs, ours)
    assert found.conflicts == ()
    return found.data


# --- what holds for any three files -------------------------------------------------------------


@given(VALUES, VALUES, VALUES)
def test_every_key_follows_the_side_that_changed_it(base: dict, theirs: dict, ours: dict) -> None:
    found = merge(rendered(base), rendered(theirs), rendered(ours))
    both = {key for key in {*base, *theirs, *ours} if len({base.get(key), theirs.get(key), ours.get(key)}) == 3}
    output = {
        key
        for key in both
        if dotenv.parse(rendered(theirs)).values.get(key) != dotenv.parse(rendered(ours)).values.get(key)
    }
    assert output <= set(found.conflicts) <= both
    if not found.conflicts:
        after = keys_of(found.data)
        for key in {*base, *theirs, *ours} - both:
            wanted = ours.get(key) if theirs.get(key) == base.get(key) else theirs.get(key)
            assert after.get(key) == (None if wanted is None else f"{key}={wanted}".strip())


@given(VALUES, VALUES, VALUES)
def test_a_merge_of_the_merged_changes_nothing_more(base: dict, theirs: dict, ours: dict) -> None:
    """After a crash the same run merges again, from the same base or already from the new one."""
    found = merge(rendered(base), rendered(theirs), rendered(ours))
    if not found.conflicts:
        assert merge(rendered(base), found.data, rendered(ours)).data == found.data
        assert merge(rendered(ours), found.data, rendered(ours)).data == found.data


@given(VALUES, VALUES)
def test_without_a_change_of_ours_theirs_stays_byte_by_byte(base: dict, theirs: dict) -> None:
    there = rendered(theirs, "# theirs", "#MINE=1")
    assert merge(rendered(base), there, rendered(base)).data == there


@given(VALUES, VALUES)
def test_without_a_change_of_theirs_ours_comes_whole(base: dict, ours: dict) -> None:
    assert keys_of(merged(rendered(base), rendered(base), rendered(ours))) == keys_of(rendered(ours))


@given(VALUES, VALUES, VALUES)
def test_a_merge_is_read_as_a_whole_and_ends_in_the_mark(base: dict, theirs: dict, ours: dict) -> None:
    found = merge(rendered(base), rendered(theirs), rendered(ours))
    if not found.conflicts:
        dotenv.parse(found.data)
        assert split_additions(ENV, found.data) == (found.data, b"")
        assert found.data.endswith(b"\n" + END)


@given(st.binary(max_size=60), VALUES)
def test_any_bytes_are_merged_or_refused(data: bytes, ours: dict) -> None:
    with contextlib.suppress(Malformed):
        merge(rendered({}), data, rendered(ours))


# --- cases worth a name -------------------------------------------------------------------------

BASE = b"# ours\nA=1\nB=2\nC=3\n" + END


@pytest.mark.parametrize(
    ("theirs", "ours", "wanted"),
    [
        (b"# mine\nA=1\nB=20\nC=3\n" + END, b"# ours\nA=10\nB=2\nC=3\n" + END, b"# mine\nA=10\nB=20\nC=3\n" + END),
        (b"C=3\n\nB=2\nA=1\n" + END, b"# ours\nA=1\nB=2\nC=30\n" + END, b"C=30\n\nB=2\nA=1\n" + END),
        (b"A=1\nMINE=1\nB=2\nC=3\n" + END, b"A=1\nB=2\n" + END, b"A=1\nMINE=1\nB=2\n" + END),
        (b"A=1\nC=3\n" + END, b"A=1\nB=2\nC=3\nD=4\n" + END, b"A=1\nC=3\nD=4\n" + END),
        (b"A=1\nB=2\nC=30\n" + END, b"NEW=0\nA=1\nB=2\nC=3\n" + END, b"NEW=0\nA=1\nB=2\nC=30\n" + END),
        (b"A='1'\nB=2\nC=3\n" + END, b"A=10\nB=2\nC=3\n" + END, b"A=10\nB=2\nC=3\n" + END),
        (b'A="10" # mine\nB=2\nC=3\n' + END, b"A=10\nB=2\nC=3\n" + END, b'A="10" # mine\nB=2\nC=3\n' + END),
        (b"export A=1\nB=2\nC=3\n" + END, b"A=10\nB=2\nC=3\n" + END, b"A=10\nB=2\nC=3\n" + END),
        (b"A=1\nB='two\nlines=3'\nC=3\n" + END, b"A=10\nB=2\nC=3\n" + END, b"A=10\nB='two\nlines=3'\nC=3\n" + END),
        (b"A=1\nB=2\nC=3\nMINE=1", b"A=1\nB=2\nC=3\nD=4\n" + END, b"A=1\nB=2\nC=3\nD=4\nMINE=1\n" + END),
        (b"A=1\r\nB=20\r\nC=3\r\n" + END, b"A=10\nB=2\nC=3\n" + END, b"A=10\nB=20\r\nC=3\r\n" + END),
        (b"# all commented\n", b"A=1\nB=2\nC=3\n" + END, b"# all commented\n" + END),
    ],
    ids=["two keys", "their order", "an added line", "a removed line", "a first line", "another spelling",
         "the same value", "export", "several lines", "no end", "carriage returns", "nothing left"],
)  # fmt: skip
def test_a_clean_merge(theirs: bytes, ours: bytes, wanted: bytes) -> None:
    assert merged(BASE, theirs, ours) == wanted


@pytest.mark.parametrize(
    ("theirs", "ours", "keys"),
    [
        (b"A=2\nB=2\nC=3\n", b"A=3\nB=2\nC=3\n", ("A",)),
        (b"B=2\nC=3\n", b"A=3\nB=2\nC=3\n", ("A",)),
        (b"A=2\nB=3\nC=3\n", b"B=4\nC=3\n", ("A", "B")),
        (b"A=1\nB=2\nC=3\nD=1\n", b"A=1\nB=2\nC=3\nD=2\n", ("D",)),
        (b"A=$UNKNOWN\nB=2\nC=3\n", b"A=2\nB=2\nC=3\n", ("A",)),
    ],
    ids=["both", "removed there", "removed here", "added twice", "a value that cannot be told"],
)
def test_a_conflict_names_its_keys(theirs: bytes, ours: bytes, keys: tuple[str, ...]) -> None:
    assert merge(BASE, theirs + END, ours + END) == (b"", keys)


@pytest.mark.parametrize("theirs", [b"A=1\nA=2\n", b"no equals sign here\n", b"A='open\n", b"A=\xff\n", b"A='1'2\n"])
def test_a_file_that_cannot_be_read_is_refused_without_its_text(theirs: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        merge(BASE, theirs + END, BASE)
    assert "open" not in str(refusal.value) and "no equals" not in str(refusal.value)


# --- the marked end -----------------------------------------------------------------------------


@given(st.binary(max_size=80))
def test_what_stands_below_the_mark_is_theirs_byte_by_byte(below: bytes) -> None:
    if below != END[:-1] and not below.endswith(b"\n" + END[:-1]):
        assert split_additions(ENV, BASE + below) == (BASE, below)
        assert split_additions("nginx/nginx.conf", BASE + below) == (BASE + below, b"")


def test_the_mark_stands_at_the_end_whatever_the_template() -> None:
    targets = Targets(Renderer(ROOT / "templates"), Parts(values(), {}, {}))
    assert targets.env.data.endswith(b"\n\n" + END)
    assert split_additions(ENV, targets.env.data) == (targets.env.data, b"")


def test_an_editor_may_take_the_last_line_end_away() -> None:
    assert split_additions(ENV, BASE[:-1]) == (BASE, b"")
