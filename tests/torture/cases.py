"""The runs that the sweeps disturb: first runs, changes, resets, resumes, and the recovery of crashed ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from setup.volume.layout import COMPOSE, ENV, HISTORY, NGINX, PROPOSAL_SUFFIX
from tests.support import foreign_trees
from tests.support.runs import OPERATORS, REQUIRED, deployed, every_secret, run
from tests.torture.injection import QUIET, Case

GENERATED = {**REQUIRED, "ORGANIZATION_NAME": "Example"}
GIVEN = {**REQUIRED, **every_secret()}
SWARM = {**GIVEN, "TARGET": "swarm"}
OWN = {**GIVEN, "TLS_MODE": "self-signed"}
CHANGED = {
    **GIVEN,
    "PUBLIC_URL": "other.example.com",
    "ORGANIZATION_NAME": "Other",
    "AUTH_TYPE": "username",
    "AVATAR_API_VERSION": "2.81",
}

EARLIER = "20260101T000000Z"

# Where the runs end that others resume or mend: in the middle of publishing a step's files, and between steps.
CRASHES = (("linkat", 3), ("linkat", 15), ("renameat", 6))

_given = partial(deployed, settings=GIVEN)


def ended_early(call: str, number: int, signal: str, out: Path, settings: Mapping[str, str] = GIVEN) -> None:
    """Ends a run as it enters a call; without a deployment to change, in a new directory."""
    out.mkdir(exist_ok=True)
    trace = ("-e", f"trace={call}", "-e", f"inject={call}:signal={signal}:when={number}")
    done = run(out, settings=settings, prefix=(*QUIET, *trace))
    assert done.returncode in (-9, 143), f"it was to end at {call} #{number}, but: {done.returncode} {done.stderr}"


def filled_by_hand(out: Path) -> None:
    """A deployment whose operator filled in the open secrets, and keeps files of their own beside ours."""
    deployed(out)
    for name, text in OPERATORS.items():
        (out / ".secrets" / name.lower()).write_text(text)
    (out / "tls").mkdir()
    (out / "tls" / "theirs.pem").write_text("a certificate of another program")
    (out / "notes.txt").write_text("mine")


def crashed_change(out: Path) -> None:
    ended_early("linkat", 4, "KILL", _given(out), CHANGED)  # its copy is made, and nginx.conf is new


def with_kept_edits(out: Path) -> None:
    """A deployment with edits in conflict, which its operator kept: the new texts lie beside them."""
    _given(out)
    for path in (COMPOSE, NGINX, ENV):
        foreign_trees.edited(out, path, "avatar.example.com", "mine.example.com")
    done = run(out, "--on-conflict", "keep", settings=CHANGED)
    assert done.returncode == 4, done.stderr


def with_taken_texts(out: Path) -> None:
    """A deployment whose operator took the new texts, and left them beside their files: the next run removes them."""
    with_kept_edits(out)
    for path in (COMPOSE, NGINX, ENV):
        (out / path).write_bytes((out / f"{path}{PROPOSAL_SUFFIX}").read_bytes())


def edited_for_swarm(out: Path) -> None:
    """A deployment that moved to Swarm, whose nginx.conf was edited since: the next run gives it a new name."""
    _given(out)
    done = run(out, settings=SWARM)
    assert done.returncode == 0, done.stderr
    foreign_trees.edited(out, NGINX, "worker_connections 4096", "worker_connections 8192")


def somebody_elses(out: Path) -> None:
    """A deployment made by hand, with one secret more than the others have: nothing is left to chance."""
    foreign_trees.by_hand(out)
    foreign_trees.edited(out, ".env", f"AUTHENTIK_API_TOKEN={foreign_trees.BOOTSTRAP}", "AUTHENTIK_API_TOKEN=its-own")


def beside_somebody_elses(out: Path) -> None:
    somebody_elses(out / "old")


def changed_and_rotated(out: Path) -> None:
    """A deployment with other settings and passwords than its oldest dated copy, which gets a name that is known."""
    _given(out)
    for settings, flags in ((CHANGED, ()), (ROTATION.settings, ROTATION.flags)):
        done = run(out, *flags, settings=settings)
        assert done.returncode == 0, done.stderr
    oldest = min((out / HISTORY).iterdir())
    oldest.rename(out / HISTORY / EARLIER)


FIRST = Case("a first run", GENERATED)
ALL_GIVEN = Case("a first run with every secret given", GIVEN, ("--save-config",))
CHANGE = Case("a run with changed settings", CHANGED, prepared=_given)
TO_SWARM = Case("a change to Swarm", SWARM, prepared=_given)
TO_KUBERNETES = Case("a change to Kubernetes", {**GIVEN, "TARGET": "kubernetes"}, prepared=_given)
REPLACEMENT = Case("a replacement of kept edits", GIVEN, ("--on-conflict", "replace"), with_kept_edits)
TAKEN = Case("a run after new texts were taken", CHANGED, prepared=with_taken_texts)
EDITED = Case("a run after an edit for Swarm", SWARM, prepared=edited_for_swarm)
RESET = Case("a reset", {**GIVEN, "LOG_LEVEL": "DEBUG"}, ("--reset",), _given)
OWN_CERTIFICATE = Case("a first run with its own certificate", OWN)
OWN_CHANGED = Case(
    "another name for its own certificate",
    {**OWN, "PUBLIC_URL": "other.example.com"},
    prepared=partial(deployed, settings=OWN),
)
RESUME = Case("a resume", GIVEN, prepared=partial(ended_early, "linkat", 20, "TERM"))
BY_HAND = Case("a run after secrets were filled in", {}, prepared=filled_by_hand)
CHANGE_AGAIN = Case("the recovery of a crashed change", CHANGED, prepared=crashed_change)
ROTATION = Case(
    "a rotation",
    {"DB_PASSWORD": "another one", "SSO_CLIENT_SECRET": "another too"},
    ("--rotate", "db_password,sso_client_secret", "--yes"),
    _given,
)
RESTORE = Case("a restore", {}, ("--restore", EARLIER, "--yes"), changed_and_rotated, True)
ADOPTION = Case("an adoption", {}, ("--adopt", "out/old", "--yes"), beside_somebody_elses, True)
ADOPTION_IN_PLACE = Case("an adoption in place", {}, ("--adopt", "out", "--yes"), somebody_elses, True)
RECOVERIES = tuple(
    Case(f"the recovery from {call} #{number}", GIVEN, prepared=partial(ended_early, call, number, "KILL"))
    for call, number in CRASHES
)
