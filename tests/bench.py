"""Measure size, speed and memory of the image, as ratios taken side by side in one run: `make bench`.

Each command runs in turn with the others, many times, in one container; its figure is the least wall time over
that of `python3 -c pass`, which is what the interpreter itself costs there. The slopes compare volumes that differ in
one thing. What an operator feels is `docker run`, compared to that of a container which does nothing.
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
from collections.abc import Callable, Mapping
from pathlib import Path

ROUNDS = 25
CONTAINERS = 9  # rounds of `docker run`
NOTHING = "python3 -c pass"
LIMITS = {"full run": 8.0, "unchanged re-run": 4.5, "--status": 4.5}
LIMITS_OF_CONTAINERS = {"full run": 1.4, "unchanged re-run": 1.15}
MEGABYTES = {"peak memory": 40, "image": 66}
SETTINGS = {"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "example-prod", "SMTP_HOST": "mail.example.com"}


# --- in the container ------------------------------------------------------------------------------


def inside(output: str) -> dict[str, float]:
    """Measure below a volume: the least wall time of each command in ms, and peak memory in MB."""
    os.environ.update(SETTINGS)
    fresh, kept = f"{output}/fresh", f"{output}/kept"
    program = ["avatar-setup", "--output-dir"]
    os.mkdir(kept)
    _measure([*program, kept])
    commands = {
        NOTHING: NOTHING.split(),
        "full run": [*program, fresh],
        "unchanged re-run": [*program, kept],
        "--status": [*program, kept, "--status"],
        **_growing(output, program, kept),
    }
    figures = dict.fromkeys(commands, 1e9)
    peak = 0.0
    for _ in range(ROUNDS):
        for name, command in commands.items():
            shutil.rmtree(fresh, ignore_errors=True)
            os.mkdir(fresh)
            spent, memory = _measure(command)
            figures[name] = min(figures[name], spent)
            peak = max(peak, memory if name == "full run" else 0)
    figures["first question"] = min(_first_question([*program, fresh]) for _ in range(5))
    return figures | {"peak memory": peak}


def _growing(output: str, program: list[str], kept: str) -> dict[str, list[str]]:
    """Name -> unchanged runs on volumes with ever more of one thing."""

    def volume(name: str) -> str:
        return shutil.copytree(kept, f"{output}/{name}")

    commands = {}
    for number in (10, 100):
        out = volume(f"backups-{number}")
        _measure([*program, out, "--set", "LOG_LEVEL=DEBUG"])
        history = f"{out}/.deployment-history"
        (first,) = os.listdir(history)
        for other in range(1, number):
            shutil.copytree(f"{history}/{first}", f"{history}/20200101T{other:06}Z")
        commands[f"{number} backups"] = [*program, out]
        commands[f"{number} backups, --history"] = [*program, out, "--history"]
    for number in (10, 1000):
        out = volume(f"foreign-{number}")
        os.mkdir(f"{out}/foreign")
        for other in range(number):
            with open(f"{out}/foreign/{other}", "w") as file:
                file.write("not written by avatar-setup\n")
        commands[f"{number} foreign files"] = [*program, out]
    for number in (100, 20_000):
        out = volume(f"keys-{number}")
        with open(f"{out}/.env", "a") as file:
            file.writelines(f"FOREIGN_{other}=x\n" for other in range(number))
        commands[f"{number} foreign keys in .env, --check"] = [*program, out, "--check"]
    for number in (1_000, 250_000):
        out = volume(f"lines-{number}")
        with open(f"{out}/nginx/nginx.conf", "a") as file:
            file.write("\n" * number)
        commands[f"{number} blank lines in nginx.conf, --check"] = [*program, out, "--check"]
    for size in (1, 200):
        config = f"{output}/config-{size}.yaml"
        with open(config, "w") as file:
            file.write("# a comment\n" * (size * 1024 // 12))
            file.writelines(f"{key}: {value}\n" for key, value in SETTINGS.items())
        out = volume(f"config-{size}")
        _measure([*program, out, "--config", config])
        commands[f"{size} KiB of configuration"] = [*program, out, "--config", config]
    return commands


def _measure(command: list[str]) -> tuple[float, float]:
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.execvp(command[0], command)
    _, status, usage = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 3):  # 3: a check that has failures
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    return (time.perf_counter() - start) * 1000, usage.ru_maxrss / 1024


def _first_question(command: list[str]) -> float:
    """Measure from the start to the first prompt on a terminal."""
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


# --- on the host -----------------------------------------------------------------------------------


def containers(image: str, folder: Path) -> dict[str, float]:
    """Measure `docker run` from outside: the least wall time of each command in ms."""
    from tests.support.engine import docker

    fresh, kept = folder / "fresh", folder / "kept"
    kept.mkdir()
    settings = [word for key, value in SETTINGS.items() for word in ("-e", f"{key}={value}")]

    def started(volume: Path, *words: str) -> Callable[[], object]:
        return lambda: docker("run", "--rm", "-v", f"{volume}:/out", *settings, image, *words)

    runs = {NOTHING: started(kept, *NOTHING.split()), "full run": started(fresh), "unchanged re-run": started(kept)}
    runs["unchanged re-run"]()
    figures = dict.fromkeys(runs, 1e9)
    for _ in range(CONTAINERS):
        for name, run in runs.items():
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            start = time.perf_counter()
            run()
            figures[name] = min(figures[name], (time.perf_counter() - start) * 1000)
    return figures


def slopes(figures: Mapping[str, float]) -> list[str]:
    """Tell what more of one thing adds to a command that changes nothing."""
    pairs = (
        ("10 backups", "100 backups"),
        ("10 backups, --history", "100 backups, --history"),
        ("10 foreign files", "1000 foreign files"),
        ("100 foreign keys in .env, --check", "20000 foreign keys in .env, --check"),
        ("1000 blank lines in nginx.conf, --check", "250000 blank lines in nginx.conf, --check"),
        ("1 KiB of configuration", "200 KiB of configuration"),
    )
    return [
        f"{few} -> {many}: {figures[few] / figures[NOTHING]:.2f} -> {figures[many] / figures[NOTHING]:.2f} x"
        for few, many in pairs
    ]


def main(image: str) -> int:
    """Measure an image and print a line for each figure; return 1 if one is above its limit."""
    from tests.support.engine import docker  # not in the container

    with tempfile.TemporaryDirectory() as directory:
        outside = containers(image, Path(directory))
    with tempfile.TemporaryDirectory() as directory:
        script = Path(__file__).resolve()
        volumes = ("-v", f"{directory}:/out", "-v", f"{script}:/bench.py:ro")
        done = docker("run", "--rm", *volumes, image, "python3", "/bench.py", "--inside", "/out", timeout=900)
    figures = json.loads(done.stdout)
    figures["image"] = int(docker("image", "inspect", "-f", "{{.Size}}", image).stdout) / 1e6
    print(f"{NOTHING}: {figures[NOTHING]:.1f} ms, the unit of what follows")
    over = _table(figures, LIMITS)
    print(f"{'first question':18} {figures['first question'] / figures[NOTHING]:5.2f} x")
    for name, limit in MEGABYTES.items():
        print(f"{name:18} {figures[name]:5.1f} MB  (at most {limit})")
        over = over or figures[name] > limit
    print("\nunchanged re-runs, with more of one thing")
    print("\n".join(slopes(figures)))
    print(f"\ndocker run of {NOTHING}: {outside[NOTHING]:.0f} ms, the unit of what follows")
    return int(_table(outside, LIMITS_OF_CONTAINERS) or over)


def _table(figures: Mapping[str, float], limits: Mapping[str, float]) -> bool:
    """Print the ratios that have a limit; return whether one is above it."""
    ratios = {name: figures[name] / figures[NOTHING] for name in limits}
    for name, limit in limits.items():
        print(f"{name:18} {ratios[name]:5.2f} x   (at most {limit})")
    return any(ratios[name] > limit for name, limit in limits.items())


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        print(json.dumps(inside(sys.argv[2])))
    else:
        sys.exit(main(sys.argv[1]))
