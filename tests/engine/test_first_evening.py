"""From an empty directory to the sign-in page, by somebody who reads the screen and nothing else."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import engine
from tests.support.runs import secrets
from tests.support.stack import HOST, Stack, deployment
from tests.support.terminal import Terminal, walk
from tests.terminal.test_operator import EXPRESS

pytestmark = pytest.mark.docker


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with deployment(tmp_path) as made:
        yield made


def test_who_reads_only_the_screen_ends_at_a_sign_in_page_with_a_password(stack: Stack) -> None:
    stack.settings["PUBLIC_URL"] = f"{HOST}:{stack.port}"
    words = ["docker", "run", "-it", "--rm", "-v", f"{stack.out}:/out", engine.image()]
    with Terminal(words, {**engine.environment(), "TERM": "xterm"}, columns=300) as terminal:
        asked = walk(terminal, answers={**EXPRESS, "Public URL": stack.netloc})
        assert terminal.ends() == 0
        end = terminal.screen.text().partition("Configuration complete\n")[2].rstrip()
    assert len(asked) <= 10
    assert end.endswith("\n  docker compose up -d"), "the one next command"
    stack.authority = stack.out / next(re.finditer(r"tls/\S+\.crt$", end.partition("Give them this file:")[2], re.M))[0]
    stack.up()

    page = urlsplit(re.findall(r"^  (https://\S+)$", end.partition("To sign in")[2], re.M)[0])
    assert page.netloc == stack.netloc
    assert stack.client.ask(page.path).status == 200
    shows = re.findall(r"^  (grep \S+ .+)$", end, re.M)[0]
    shown = subprocess.run(["sh", "-c", shows], cwd=stack.out, capture_output=True, text=True, check=True).stdout
    assert shown.rstrip().endswith(f"={secrets(stack.out)['authentik_bootstrap_password']}")
