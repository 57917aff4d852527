"""Runs the sweeps and prints their table: `python -m tests.torture [--sample] [LAYER ...]`.

Each layer is a module of this package with `run(sample: bool) -> Result`. A layer that tried fewer cases than it
promises has failed, as has one with a violation.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback

from tests.torture import progress
from tests.torture.result import Result

# Layer -> what it tries, and how many cases a whole run has at least.
LAYERS = {
    "kills": ("kill points (KILL, TERM, INT at every file system call, and again in recovery)", 2700),
    "errors": ("error points (nine errnos, once and sticky)", 2000),
    "power": ("power cuts (ext4, xfs)", 800),
    "full": ("full disk or no inodes", 250),
    "races": ("delayed races of two runs", 500),
    "sequences": ("random sequences of 30 commands on one deployment, kills included", 200),
    "carried": ("values through .env, by compose and in containers", 20400),
    "inputs": ("bad inputs", 150),
    "mutants": ("mutants of the promises", 10),
}


def tried(layer: str, sample: bool) -> Result:
    """Run one layer, whole or as a sample."""
    progress.begin(layer)
    return importlib.import_module(f"tests.torture.{layer}").run(sample)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Tries the promises, layer by layer.")
    parser.add_argument("layers", nargs="*", metavar="LAYER", help=f"of {', '.join(LAYERS)}; all if none is named")
    parser.add_argument("--sample", action="store_true", help="a few cases of every kind")
    options = parser.parse_args(arguments)
    if unknown := set(options.layers) - LAYERS.keys():
        parser.error(f"there is no layer {', '.join(sorted(unknown))}")
    sample, failed = options.sample, False
    print("| layer | cases | violations | time | of these |\n|---|---|---|---|---|")
    for layer in options.layers or LAYERS:
        what, at_least = LAYERS[layer]
        started = time.monotonic()
        try:
            result = tried(layer, sample)
        except Exception as error:  # the other layers are tried all the same
            traceback.print_exc()
            result = Result(0, [f"the layer broke off: {error!r}"])
        seconds = time.monotonic() - started
        short = not sample and result.cases < at_least
        failed = failed or short or bool(result.violations)
        wanted = "a sample" if sample else f"at least {at_least}"
        figures = f"{result.cases} ({wanted}) | {len(result.violations)} | {seconds:.0f} s"
        print(f"| {layer}: {what} | {figures} | {result.note} |")
        for violation in result.violations[:20]:
            print(f"    {violation}", file=sys.stderr)
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
