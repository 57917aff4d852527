"""Input files and YAML: plain data in, texts as they were written out; the rest is refused without being quoted."""

from __future__ import annotations

import contextlib
import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from setup.formats.yaml_file import DEEPEST, LARGEST_FILE, Malformed, decode, load_yaml, read_input
from tests.support.bad_files import MALFORMED, NOT_READABLE, SECRET, nested


@pytest.fixture(params=["libyaml", "python"])
def load(request, monkeypatch):
    """`load_yaml` with each of PyYAML's parsers: the fast one is missing on some systems."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CBaseLoader", raising=False)
    elif not hasattr(yaml, "CBaseLoader"):
        pytest.skip("this PyYAML was built without libyaml")
    return load_yaml


@pytest.mark.parametrize(
    "scalar",
    [
        "3.10",
        "NO",
        "no",
        "22:22",
        "0o17",
        "017",
        "1e3",
        "0x1F",
        "2024-01-01",
        "true",
        "True",
        "1_000",
        ".5",
        "+1",
        "=",
        "<<",
    ],
)
def test_scalars_stay_as_written(load, scalar):
    assert load(f"KEY: {scalar}\n".encode()) == {"KEY": scalar}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", None), ("~", None), ("null", None), ("''", ""), ('""', ""), ("'~'", "~"), ('"null"', "null"),
        ("Null", "Null"),
        ("'it''s'", "it's"), ('"a\\tb\\u00e9"', "a\tbé"), ("plain words # comment", "plain words"),
        ("'# no comment'", "# no comment"),
        ("|\n  two\n  lines", "two\nlines"), ("'a\n\n  b'", "a\nb"), ("[a, '3.10', ~]", ["a", "3.10", None]),
        ("{a: {b: c}}", {"a": {"b": "c"}}),
        ("\n- a\n- b", ["a", "b"]), ("é日", "é日"),
    ],
    ids=lambda value: repr(value)[:25],
)  # fmt: skip
def test_values(load, written, value):
    assert load(f"KEY: {written}".encode()) == {"KEY": value}


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"", None), (b"# only a comment\n", None), (b"---\n", None), (b"--- {}\n...\n", {}),
        (b"A: 1\n...\n", {"A": "1"}),
        (b"%YAML 1.1\n---\nA: 1\n", {"A": "1"}), (b"\xef\xbb\xbfA: 1\n", {"A": "1"}),
        (b"A: 1\r\nB: 2\r\n", {"A": "1", "B": "2"}),
        (b"A: 1\rB: 2\r", {"A": "1", "B": "2"}), (b"just words", "just words"), (b"- A\n- B\n", ["A", "B"]),
        (b'{"A": "1"}', {"A": "1"}),
        (b"? A\n: 1\n", {"A": "1"}),
    ],
    ids=repr,
)  # fmt: skip
def test_documents(load, data, content):
    assert load(data) == content


def test_as_deep_as_allowed(load):
    value = load(nested(DEEPEST))["A"]
    for _ in range(DEEPEST - 1):
        (value,) = value
    assert value == "x"


@pytest.mark.parametrize(("data", "words"), MALFORMED.values(), ids=MALFORMED)
def test_malformed(load, data, words):
    with pytest.raises(Malformed) as refusal:
        load(data)
    message = str(refusal.value)
    assert words in message
    assert SECRET not in message
    assert message.isprintable()
    assert refusal.value.__cause__ is None, "no exception that quotes the line hangs on"
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_a_long_key_is_cut(load):
    with pytest.raises(Malformed) as refusal:
        load(b"? " + b"k" * 5000 + b"\n: 1\n? " + b"k" * 5000 + b"\n: 2\n")
    assert len(str(refusal.value)) < 200


_PLAIN = st.recursive(
    st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcXYZ_ .-é", min_size=1, max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abcXYZ_", min_size=1, max_size=8), _PLAIN, max_size=4))
def test_what_yaml_writes_comes_back(content):
    assert (load_yaml(yaml.safe_dump(content, allow_unicode=True).encode()) or {}) == content


@given(st.binary(max_size=60) | st.text("A: [{}]&*!|>'\"%@`#-?,\n\t \\xé\x00\ufeff", max_size=40).map(str.encode))
def test_any_bytes_are_plain_data_or_malformed(data):
    try:
        content = load_yaml(data)
    except Malformed as error:
        assert str(error).isprintable()
    else:
        assert content is None or isinstance(content, (str, list, dict))


@pytest.fixture
def not_root():
    """A context in which this process may read only what its rights say, also when root runs the tests."""

    @contextlib.contextmanager
    def rights():
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return rights


# --- files --------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_is(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"a\r\nb\x00\n\n")
    assert read_input(str(path)) == b"a\r\nb\x00\n\n"


def test_a_link_is_followed(tmp_path):
    """Docker and Kubernetes hand secrets over as links."""
    (tmp_path / "there").write_bytes(b"x")
    (tmp_path / "link").symlink_to("there")
    assert read_input(str(tmp_path / "link")) == b"x"


@pytest.mark.parametrize("size", [0, LARGEST_FILE])
def test_sizes_up_to_the_limit(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert len(read_input(str(path))) == size


@pytest.mark.parametrize(("make", "words"), NOT_READABLE.values(), ids=NOT_READABLE)
def test_what_is_no_file_is_refused(tmp_path, make, words):
    path = tmp_path / "input"
    make(path)
    with pytest.raises(Malformed, match=words):
        read_input(str(path))


def test_a_name_with_a_nul_is_refused():
    with pytest.raises(Malformed, match="NUL"):
        read_input("a\0b")


def test_a_file_without_rights_is_refused(tmp_path, not_root):
    path = tmp_path / "input"
    path.write_bytes(b"x")
    path.chmod(0)
    with not_root(), pytest.raises(Malformed, match="permission denied"):
        read_input(str(path))


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"", ""), ("é日".encode(), "é日"), (b"\xef\xbb\xbfpassword\n", "password\n"), (b"a\r\n", "a\r\n")],
)
def test_decode(data, text):
    assert decode(data) == text


def test_no_descriptor_stays_open(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        for path in (tmp_path, tmp_path / "fifo", tmp_path / "missing"):
            with pytest.raises(Malformed):
                read_input(str(path))
    assert len(os.listdir("/proc/self/fd")) == before
