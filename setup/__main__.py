"""Starts the command line; the signal handler comes first, as PID 1 would ignore SIGTERM without one."""

import os
import signal
import sys

# Only these save no progress. Later, `console.last_word` knows it exactly.
READING = (
    "--status", "--check", "--diff", "--dry-run", "--history", "--export", "--images", "--host-check", "--help", "-h",
    "--version",
)  # fmt: skip
SAVED, NOTHING = "Progress saved. Run the same command to go on", "Nothing was changed"


def _last_word():  # type: ignore[no-untyped-def]
    for word in sys.argv[1:]:
        if word.partition("=")[0] in READING:
            return NOTHING
    last_word = getattr(sys.modules.get("setup.console"), "last_word", None)
    return last_word() if last_word else SAVED


def _leave(number, _frame):  # type: ignore[no-untyped-def]  # nothing may be imported before this is installed
    """Unwind the run, so that staged files are removed; ends with ExitCode.INTERRUPTED or TERMINATED."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    try:  # noqa: SIM105 - contextlib may not be there yet
        os.write(2, f"\n{_last_word()}\n".encode())  # type: ignore[no-untyped-call]
    except OSError:  # the terminal is closed
        pass
    raise SystemExit(130 if number == signal.SIGINT else 143)


def _no_core_dumps() -> None:
    """Keep secrets out of core files, and from crash reporters, which no limit stops."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/coredump_filter", "wb") as file:
            file.write(b"0")
    except OSError:  # no /proc, or a kernel without: the limit holds
        pass


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    _no_core_dumps()
    import gc

    gc.disable()  # a run is short: looking for cycles costs more than the memory it would free
    from setup.cli import main as run

    return run()


if __name__ == "__main__":
    # Everything shown is flushed and every file closed. To free each object first would take a tenth of a short run.
    os._exit(main())
