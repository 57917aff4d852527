"""Quoting: what each target refuses, and how quoted text is read back by parsers that need no engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import crossplane
import pytest
import yaml
from jinja2 import meta, nodes

from setup.deploy.templates import CannotCarry, Renderer
from setup.errors import InputError
from setup.formats.quoting import quote_env, quote_nginx, quote_yaml
from tests.support.hostile import CHOSEN, carried, generated

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = sorted(path.name for path in (ROOT / "templates").glob("*.j2"))
GENERATED = generated(2000)


# --- .env ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("", ""),
        ("avatar.example.com:8443/x,y%20+@-_", "avatar.example.com:8443/x,y%20+@-_"),
        ("two words", "'two words'"),
        ("a#b", "'a#b'"),
        ("$HOME", "'$HOME'"),
        ('"', "'\"'"),
        ("é", "'é'"),
        ("it's", '"it\'s"'),
        ("a\\b", '"a\\\\b"'),
        ('it\'s $5 "x"', '"it\'s \\$5 \\"x\\""'),
        ("a\nb\r\t", '"a\\nb\\r\\t"'),
        (True, "true"),
        (False, "false"),
        (587, "587"),
    ],
)
def test_env_quotes_as_little_as_it_can(value, quoted):
    assert quote_env(value) == quoted


@pytest.mark.parametrize("char", [chr(code) for code in (*range(32), 127) if chr(code) not in "\n\r\t"])
@pytest.mark.parametrize("around", ["{}", "a{}b", "it's {}", "back\\slash{}"])
def test_env_refuses_control_characters(char, around):
    with pytest.raises(ValueError, match="control character"):
        quote_env(around.format(char))


@pytest.mark.parametrize("text", [*CHOSEN, *GENERATED[:200]])
def test_env_quoting_stays_on_one_line(text):
    if carried(quote_env, [text]):
        assert not re.search(r"[\n\r]", quote_env(text))


# --- YAML ---------------------------------------------------------------------------------------------


def test_yaml_reads_back_what_was_quoted():
    pairs = carried(quote_yaml, [*CHOSEN, *GENERATED])
    assert len(pairs) > 2000
    document = "".join(f"v{number}: {quoted}\n" for number, (_, quoted) in enumerate(pairs))
    read = yaml.safe_load(document)
    for number, (text, _) in enumerate(pairs):
        assert read[f"v{number}"].replace("$$", "$") == text


@pytest.mark.parametrize("value", ["3.10", "true", "~", "2026-01-01", True, 443])
def test_yaml_makes_texts_of_everything(value):
    assert isinstance(yaml.safe_load(quote_yaml(value)), str)


def test_yaml_refuses_nul():
    with pytest.raises(ValueError, match="NUL"):
        quote_yaml("a\0b")


# --- nginx --------------------------------------------------------------------------------------------


def test_nginx_parameters_are_parsed_to_what_was_quoted(tmp_path):
    pairs = carried(quote_nginx, [*CHOSEN, *GENERATED])
    assert len(pairs) > 900
    path = tmp_path / "nginx.conf"
    lines = "".join(f"    server_name {quoted} end;\n" for _, quoted in pairs)
    path.write_text(f"http {{\nserver {{\n{lines}}}\n}}\n", encoding="utf-8", newline="")
    parsed = crossplane.parse(str(path), strict=True)
    assert parsed["status"] == "ok", json.dumps(parsed["errors"])
    directives = parsed["config"][0]["parsed"][0]["block"][0]["block"]
    # nginx reads a backslash before these as one character; crossplane keeps both.
    read = [re.sub(r'\\(["\\])', r"\1", directive["args"][0]) for directive in directives]
    assert read == [text for text, _ in pairs]
    assert all(directive["args"][1:] == ["end"] for directive in directives)


@pytest.mark.parametrize("text", ["$", "a$b", "${x}", *(f"a{chr(code)}b" for code in (*range(32), 127))])
def test_nginx_refuses_what_it_cannot_escape(text):
    with pytest.raises(ValueError, match="cannot carry"):
        quote_nginx(text)


def test_nginx_refuses_what_does_not_fit_its_buffer():
    assert len(quote_nginx("\\" * 2000)) < 4096
    with pytest.raises(ValueError, match="longer than"):
        quote_nginx("x" * 2001)


# --- all of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("quote", [quote_env, quote_yaml, quote_nginx])
def test_surrogates_are_no_text(quote):
    with pytest.raises(ValueError, match="Unicode"):
        quote("a\udc80b")


@pytest.mark.parametrize("quote", [quote_env, quote_yaml, quote_nginx])
@pytest.mark.parametrize("value", [None, 1.5, ["a"], {"a": 1}, b"a"])
def test_only_texts_numbers_and_booleans_are_shown(quote, value):
    with pytest.raises(TypeError):
        quote(value)


# --- templates ----------------------------------------------------------------------------------------


def _renderer(tmp_path: Path, text: str) -> Renderer:
    (tmp_path / "x.j2").write_text(text)
    return Renderer(tmp_path)


def test_an_undefined_name_is_an_error(tmp_path):
    with pytest.raises(InputError, match="'NOBODY' is undefined"):
        _renderer(tmp_path, "{{ NOBODY|yaml }}").text("x.j2", {})


def test_an_undefined_name_is_an_error_in_a_condition_too(tmp_path):
    with pytest.raises(InputError, match="'NOBODY' is undefined"):
        _renderer(tmp_path, "{% if NOBODY %}x{% endif %}").text("x.j2", {})


@pytest.mark.parametrize("template", ["{{ list[a] }}", "{{ {}[a] }}", "{% include a %}", "{{ (a|attr(a)).x }}"])
def test_a_templates_error_says_where_it_is_and_no_value(tmp_path, template):
    with pytest.raises(InputError, match=r"x\.j2 cannot be used: line 2") as refusal:
        _renderer(tmp_path, f"first\n{template}").text("x.j2", {"a": "it's hunter2", "list": []})
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("template", ["{{ [].index(a) }}", "{{ '{x}'.index(a) }}"])
def test_a_templates_own_value_error_is_no_sentence_for_the_operator(tmp_path, template):
    """Its text may hold the value, as `[].index` shows."""
    with pytest.raises(ValueError) as error:
        _renderer(tmp_path, template).text("x.j2", {"a": "hunter2"})
    assert not isinstance(error.value, CannotCarry)


def test_a_syntax_error_says_what_it_is(tmp_path):
    with pytest.raises(InputError, match=r"line 2: unexpected '}'"):
        _renderer(tmp_path, "first\n{{ a } }}").text("x.j2", {})


def test_a_missing_template_is_named(tmp_path):
    with pytest.raises(InputError, match=r"x\.j2 cannot be used: it does not exist"):
        Renderer(tmp_path).text("x.j2", {})


def test_a_refused_value_names_the_file(tmp_path):
    with pytest.raises(CannotCarry, match=r"^x: .*cannot carry"):
        _renderer(tmp_path, "{{ a|nginx }}").text("x.j2", {"a": "$1"})


def test_a_comment_cannot_leave_its_line(tmp_path):
    assert _renderer(tmp_path, "# {{ a|comment }}\n").text("x.j2", {"a": "x\ny\r\u2028z\x0b"}) == b"# x y z\n"


def test_static_files_are_listed_in_order(tmp_path):
    for name in ("a/b/2", "a/1", "a/b/1", "c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    renderer = Renderer(tmp_path)
    assert renderer.static_names("a") == ("a/1", "a/b/1", "a/b/2")
    assert renderer.static("a/b/2") == b"a/b/2"


def _parsed(name: str) -> nodes.Template:
    environment = Renderer(ROOT / "templates")._make_environment()
    return environment.parse((ROOT / "templates" / name).read_text())


QUOTING = {"env.j2": {"env"}, "docker-compose.yml.j2": {"yaml", "plain", "block"}, "nginx.conf.j2": {"nginx"}}


def test_every_template_has_its_quoting_filter():
    assert set(QUOTING) == set(TEMPLATES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_output_ends_in_the_quoting_filter_of_its_target(name):
    allowed, parsed = QUOTING[name] | {"comment"}, _parsed(name)
    macros = {macro.name for macro in parsed.find_all(nodes.Macro)}  # whose own outputs are among these
    for output in parsed.find_all(nodes.Output):
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData) or (isinstance(node, nodes.Name) and node.name == "key"):
                continue
            if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in macros:
                continue
            assert isinstance(node, nodes.Filter), f"{name}:{node.lineno} shows a bare {type(node).__name__}"
            assert node.name in allowed, f"{name}:{node.lineno} ends in |{node.name}"


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_template_hides_an_undefined_name(name):
    parsed = _parsed(name)
    assert not [node for node in parsed.find_all(nodes.Filter) if node.name in ("default", "d", "safe")]
    assert not [node for node in parsed.find_all(nodes.Test) if node.name in ("defined", "undefined")]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_comment_filter_stands_only_in_comments(name):
    for number, line in enumerate((ROOT / "templates" / name).read_text().splitlines(), 1):
        if "|comment" in line:
            assert line.lstrip().startswith("#"), f"{name}:{number}"


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_ask_only_for_what_targets_know(name):
    from setup.config import derived
    from setup.config.engines import nginx_facts
    from setup.config.settings import SETTINGS
    from tests.support.trees import resolution

    known = set(SETTINGS) | set(derived.facts(resolution({}).values))
    known |= set(nginx_facts(resolution({}).values))
    known |= {"groups", "secret_names", "secret_directory", "service_secrets", "fingerprints"}
    known |= {"file_mounts", "digests", "owner", "row", "scripts", "networks", "data_volumes"}
    assert meta.find_undeclared_variables(_parsed(name)) <= known
