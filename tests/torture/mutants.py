"""Mutants: each promise broken on purpose in a copy of the program, where a test or a sweep must notice it.

    python -m tests.torture.mutants "no lock"     applies one, and prints what was not as it must be

A mutant counts only if the broken program still completes an ordinary run, and if what notices it finds nothing in
an unbroken copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.runs import ROOT
from tests.support.runs import run as ordinary_run
from tests.torture.broken import MUTANTS, Mutant
from tests.torture.injection import in_parallel, repeated, scratch
from tests.torture.result import Result

NOTICED = 1  # the exit code of pytest, and of the sweeps, for what they have found
LEFT_OUT = (".*", "__pycache__", "avatar")


def run(sample: bool) -> Result:
    """All mutants, and what notices them on an unbroken copy; in a sample every fifth, but the texts of all."""
    missing = [f"{mutant}: {problem}" for mutant in MUTANTS for problem in misfits(mutant, ROOT)]
    chosen = MUTANTS[::5] if sample else MUTANTS
    unbroken = [
        Mutant(f"unbroken, {' '.join(words)}", words, ()) for words in dict.fromkeys(one.noticed_by for one in chosen)
    ]
    found = in_parallel(_problems, [*chosen, *unbroken])
    return Result(len(chosen), missing + found, f"{len(unbroken)} commands find nothing in an unbroken copy")


def misfits(mutant: Mutant, root: Path) -> list[str]:
    """Tell which texts of a mutant a copy of the program does not have exactly once."""
    return [
        f"its text is not, or no longer once, in {edit.path}: {edit.old!r}"
        for edit in mutant.edits
        if (root / edit.path).read_text().count(edit.old) != 1
    ]


def _problems(mutant: Mutant) -> Iterator[str]:
    with scratch() as folder:
        copy, out = folder / "copy", folder / "out"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for edit in mutant.edits:
            path = copy / edit.path
            path.write_text(path.read_text().replace(edit.old, edit.new))
        out.mkdir()
        works = ordinary_run(out, root=copy)
        if works.returncode != 0:
            yield f"it cannot even complete a run: {works.stderr}"
        env = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
        words = [sys.executable, "-m", *mutant.noticed_by]
        done = subprocess.run(words, cwd=copy, env=env, capture_output=True, text=True, check=False)
        if done.returncode != (NOTICED if mutant.edits else 0):
            yield f"{' '.join(mutant.noticed_by)} ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}"


if __name__ == "__main__":
    sys.exit(repeated(MUTANTS, _problems, sys.argv[1]))
