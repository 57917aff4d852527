"""Control and direction characters of a volume or a foreign tree: every stream shows them spelled, and stays text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import foreign_trees
from tests.support.runs import REQUIRED, deployed, ran, run

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\u2066\u200b\ufeff\r\x7f"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out")


def shown(out: Path, *flags: str, settings: dict[str, str] | None = None) -> str:
    """Run a command, and return what it shows, which has no raw control character."""
    done = run(out, *flags, settings={} if settings is None else settings)
    text = done.stdout + done.stderr
    assert RAW.search(text) is None, text.encode()
    assert "Traceback" not in text and done.returncode != 70, text
    return text


@pytest.mark.parametrize("flags", [("--diff",), ("--diff", "--json"), (), ("--json",), ("--check",), ("--status",)])
def test_an_edited_file(out: Path, flags: tuple[str, ...]) -> None:
    for name in (".env", "nginx/nginx.conf", "docker-compose.yml"):
        path = out / name
        path.write_text(path.read_text().replace("\n", f"\n# {EVIL}\n", 1) + f"# {EVIL}\n")
    shown(out, *flags, "--set", "PUBLIC_URL=other.example.com") if "--status" not in flags else shown(out, *flags)


@pytest.mark.parametrize("flags", [("--dry-run",), ("--yes",), ("--yes", "--json")])
def test_a_foreign_tree(tmp_path: Path, flags: tuple[str, ...]) -> None:
    source = foreign_trees.by_hand(tmp_path / "source")
    (source / f"evil{EVIL}\nWhat changes:\n  nothing").write_text("")
    (source / ".secrets" / f"evil{EVIL}\nmore").write_text("x")
    with (source / ".env").open("a") as file:
        file.write(f"EVIL{EVIL}=1\nSMTP_SENDER_EMAIL='a{EVIL}'\n")
    out = tmp_path / "out"
    out.mkdir()
    text = shown(out, "--adopt", str(source), *flags)
    assert not re.search(r"^  nothing$", text, re.M)


@pytest.mark.parametrize("flags", [("--history",), ("--history", "--json"), ("--status",), ("--diff",), ()])
def test_the_manifest_of_a_backup_the_mark_of_a_restore_and_the_old_settings(out: Path, flags: tuple[str, ...]) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    [manifest] = (out / ".deployment-history").glob("*/manifest.json")
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document | {"version": EVIL, "kind": "adoption", "source": f"{EVIL}\nfake"}))
    record = out / ".deployment-written" / "settings.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"ENV_NAME": [EVIL, "caller"]}))
    shown(out, *flags)
    shown(out, *flags, settings=REQUIRED | {"ENV_NAME": "another"}) if not flags or flags == ("--diff",) else None
    (out / ".deployment-history" / "restoring").write_text(f"{EVIL}\nfake")
    shown(out, *flags)


@pytest.mark.parametrize("flags", [("--status",), (), ("--history",), ("--diff",), ("--check",), ("--json",)])
def test_the_path_of_the_directory(tmp_path: Path, flags: tuple[str, ...]) -> None:
    out = tmp_path / f"out{EVIL}\nfake"
    out.mkdir()
    shown(out, *flags, settings=REQUIRED)
    shown(tmp_path / f"missing{EVIL}\nfake", *flags)


def test_data_survives_the_spelling(out: Path) -> None:
    (out / "nginx/nginx.conf").write_text(f"# {EVIL}\n")
    text = run(out, "--history", "--json", settings={}).stdout
    assert json.loads(text)["copies"] == []
    ran(out, "--set", "LOG_LEVEL=DEBUG", "--on-conflict", "replace", settings={})
    [manifest] = (out / ".deployment-history").glob("*/manifest.json")
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document | {"kind": "adoption", "source": EVIL}))
    [row] = json.loads(ran(out, "--history", "--json", settings={}).stdout)["copies"]
    assert row["before"] == f"--adopt {EVIL}"


@pytest.mark.parametrize("data", [b"[" * 200_000, b'{"ENV_NAME": ["\\u0000", "caller"]}', b"\0"])
def test_a_damaged_record_of_the_settings_is_no_internal_error(out: Path, data: bytes) -> None:
    (out / ".deployment-written" / "settings.json").write_bytes(data)
    for flags in (("--diff",), ("--history",), ()):
        shown(out, *flags, settings=REQUIRED | {"LOG_LEVEL": "DEBUG"})
