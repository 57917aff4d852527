"""Size, speed and memory of the image, as ratios measured side by side in one run: `make bench`.

Each command runs in turn with the others, many times, in one container; its figure is the least wall time over
that of `python3 -c pass`, which is what the interpreter itself costs there.
"""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 25
LIMITS = {"full run": 10.0, "unchanged re-run": 4.5, "--status": 4.5}
SETTINGS = {"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "example-prod"}


def inside(output: str) -> dict[str, float]:
    """Runs in the container, below a volume; least wall time of each command in ms, and peak memory in MB."""
    fresh, kept = f"{output}/fresh", f"{output}/kept"
    program = ["avatar-setup", "--output-dir"]
    commands = {
        "python3 -c pass": ["python3", "-c", "pass"],
        "full run": [*program, fresh],
        "unchanged re-run": [*program, kept],
        "--status": [*program, kept, "--status"],
    }
    os.environ.update(SETTINGS)
    os.mkdir(kept)
    _measure(commands["unchanged re-run"])
    figures: dict[str, float] = dict.fromkeys(commands, 1e9)
    memory = 0.0
    for _ in range(ROUNDS):
        for name, command in commands.items():
            shutil.rmtree(fresh, ignore_errors=True)
            os.mkdir(fresh)
            spent, peak = _measure(command)
            figures[name] = min(figures[name], spent)
            memory = max(memory, peak if name == "full run" else 0)
    figures["first question"] = min(_first_question([*program, fresh]) for _ in range(5))
    return figures | {"peak MB": memory}


def _measure(command: list[str]) -> tuple[float, float]:
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.execvp(command[0], command)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    return (time.perf_counter() - start) * 1000, usage.ru_maxrss / 1024


def _first_question(command: list[str]) -> float:
    """From the start to the first prompt on a terminal."""
    start = time.perf_counter()
    child, terminal = pty.fork()
    if child == 0:
        for key in SETTINGS:
            os.environ.pop(key)
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    seen = b""
    while b"Public URL" not in seen:
        select.select([terminal], [], [], 30)
        seen += os.read(terminal, 65536)
    spent = (time.perf_counter() - start) * 1000
    os.kill(child, 15)
    os.close(terminal)
    os.waitpid(child, 0)
    return spent


def main(image: str) -> int:
    """Measures an image and prints a line for each figure; 1 when one is above its limit."""
    from tests.support.engine import docker  # not in the container

    size = int(docker("image", "inspect", "-f", "{{.Size}}", image).stdout) / 1e6
    with tempfile.TemporaryDirectory() as directory:
        script = Path(__file__).resolve()
        volumes = ("-v", f"{directory}:/out", "-v", f"{script}:/bench.py:ro")
        done = docker("run", "--rm", *volumes, image, "python3", "/bench.py", "--inside", "/out", timeout=900)
    figures = json.loads(done.stdout)
    base = figures["python3 -c pass"]
    rows = [(name, figures[name] / base, limit) for name, limit in LIMITS.items()]
    print(f"python3 -c pass: {base:.1f} ms, the unit of what follows")
    for name, ratio, limit in rows:
        print(f"{name:18} {ratio:5.2f} x   (at most {limit})")
    print(f"{'first question':18} {figures['first question'] / base:5.2f} x")
    print(f"{'peak memory':18} {figures['peak MB']:5.1f} MB  (at most 40)")
    print(f"{'image':18} {size:5.1f} MB  (at most 66)")
    over = any(ratio > limit for _, ratio, limit in rows) or figures["peak MB"] > 40 or size > 66
    return int(over)


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        print(json.dumps(inside(sys.argv[2])))
    else:
        sys.exit(main(sys.argv[1]))
