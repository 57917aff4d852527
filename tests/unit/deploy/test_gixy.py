"""A linter of nginx configurations finds nothing in the generated ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import trees

GIXY = Path(sys.executable).with_name("gixy")


def found(config: Path) -> list[str]:
    """What gixy says of a configuration, with all of its checks."""
    done = subprocess.run([GIXY, "-f", "json", config], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return [f"{issue['plugin']}: {issue['reason'] or issue['summary']}" for issue in json.loads(done.stdout)]


@pytest.mark.parametrize("name", trees.CONFIGURATIONS)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_bytes(trees.made_files(name)["nginx/nginx.conf"])
    assert found(tmp_path / "nginx.conf") == []


@pytest.mark.parametrize(
    ("good", "bad", "plugin"),
    [
        ("proxy_set_header Host $host$avatar_port;", "proxy_set_header Host $http_host;", "host_spoofing"),
        ("set $avatar_upstream http://web:3000;", "set $avatar_upstream $arg_to;", "ssrf"),
        ("server_tokens off;", "server_tokens on;", "version_disclosure"),
        ("ssl_protocols TLSv1.2", "ssl_protocols TLSv1 TLSv1.2", "weak_ssl_tls"),
    ],
)
def test_it_would_find_what_is_wrong(good: str, bad: str, plugin: str, tmp_path: Path) -> None:
    text = trees.made_files("usual")["nginx/nginx.conf"].decode()
    assert good in text
    (tmp_path / "nginx.conf").write_text(text.replace(good, bad))
    assert [issue.partition(":")[0] for issue in found(tmp_path / "nginx.conf")] == [plugin]
