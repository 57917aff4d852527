"""Reads a deployment of another hand into memory: which layout it has, and the files that tell about it.

It only reads, below the directory that the operator names; links in it are followed, as Compose follows them.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from setup import state_file
from setup.errors import Busy, DecisionNeeded, InputError
from setup.formats import dotenv
from setup.formats.yaml_file import Malformed, read_input
from setup.volume import backups, lock
from setup.volume.layout import File

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENV, STATE, NGINX, SECRETS = ".env", ".deployment-state.yaml", "nginx/nginx.conf", ".secrets"
LAST_GOOD = f"{STATE}.bak"
COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")  # as Compose looks for it
_VERSIONS, _GENERATED = ".deployment_states", "generated_files"  # of the public deployment tool since its release 2.7
# What else may stand beside them and needs no word.
_USUAL = {
    *(ENV, STATE, SECRETS, _VERSIONS, _GENERATED, "nginx", "tls", "authentik", "user_config", ".avatar-templates"),
    *(LAST_GOOD, ".deployment-state.lock", ".deployment-history", ".deployment-written", *COMPOSE_NAMES),
}


class Tree(NamedTuple):
    """What was read: files by their path below `base`, states by theirs below `path`, and what could not be read.

    `last_good` is the copy of a state of ours that stands beside it, b"" for none.
    """

    path: str
    base: str
    files: dict[str, bytes]
    states: dict[str, bytes]
    unreadable: dict[str, str]
    last_good: bytes
    others: tuple[str, ...]


def read(path: str) -> Tree:
    """The deployment in a directory; raises InputError when there is none."""
    names = _names(path)
    ours = STATE in names and state_file.is_ours(_bytes(os.path.join(path, STATE)))
    states = [
        f"{_VERSIONS}/{name}/deployment_state.yaml" for name in _versions(path) if _VERSIONS in names and not ours
    ]
    base = _GENERATED if states else ""
    last_good = _bytes(os.path.join(path, LAST_GOOD)) if LAST_GOOD in names else b""
    tree = Tree(path, base, {}, {}, {}, last_good, tuple(sorted(set(names) - _USUAL)))
    if STATE not in names and state_file.is_ours(last_good):
        tree.unreadable[STATE] = f"it is gone. {way_back(tree)}"
    below = _names(os.path.join(path, base)) if base in names or not base else []
    for state in states or ([STATE] if STATE in names else []):
        _take(tree, tree.states, state, state)
    compose = [name for name in COMPOSE_NAMES if name in below][:1]
    for name in [ENV] * (ENV in below) + compose + [NGINX] * ("nginx" in below):
        _take(tree, tree.files, name, os.path.join(base, name))
    folder = _secrets_folder(tree)
    for name in _names(os.path.join(path, base, folder)) if folder.split("/")[0] in below else []:
        if not name.startswith("."):
            _take(tree, tree.files, f"{SECRETS}/{name}", os.path.join(base, folder, name))
    if not tree.states and not tree.unreadable and ENV not in below and folder not in below:
        raise InputError(
            f"{path} holds no deployment: neither .env and .secrets/, nor a {STATE}, nor {_VERSIONS}/. Name the "
            "directory of an existing one; in a container, mount it: -v /old/avatar:/old:ro avatar-setup --adopt /old"
        )
    return tree


def is_at(path: str, output_dir: str) -> bool:
    """Whether a deployment lies in the output directory itself, under whatever name."""
    with _looking_at(path):
        source = os.stat(path)
    with contextlib.suppress(OSError):  # what is wrong with the output is said when it is opened
        return os.path.samestat(source, os.stat(output_dir))
    return False


def require_finished(tree: Tree) -> None:
    """Raises Busy while a run is at work in it, and says what to finish first where one has left it half done."""
    with _looking_at(tree.path):
        descriptor = os.open(tree.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock.require_free(descriptor)
    except Busy as error:
        raise Busy(f"{tree.path}: {error}") from None
    finally:
        os.close(descriptor)
    half = _bytes(os.path.join(tree.path, backups.MARK)).decode(errors="replace").strip()
    if half:
        raise DecisionNeeded(
            f"{tree.path} is halfway between two deployments: bringing back {half} was interrupted. Finish it there "
            f"first (avatar-setup --restore {half}, with that directory as the output), then adopt it"
        )
    with contextlib.suppress(Malformed):  # `understand` says so, and a state of another tool is none of ours
        if {*state_file.parse(tree.states.get(STATE, b"")).steps.values()} != {state_file.COMPLETED}:
            raise InputError(
                f"{tree.path} is not complete: a run there has ended early. Finish it there first (avatar-setup, with "
                "that directory as the output), then adopt it"
            )


def also(tree: Tree, paths: Iterable[str]) -> tuple[list[File], list[str]]:
    """Further files below the base, without those that are not there; and what keeps others from being read."""
    found: dict[str, bytes] = {}
    more = tree._replace(unreadable={})
    for path in paths:
        _take(more, found, path, os.path.join(tree.base, path))
    with _looking_at(tree.path):
        files = [
            File(path, data, os.stat(os.path.join(tree.path, tree.base, path)).st_mode & 0o777)
            for path, data in found.items()
        ]
    return files, problems(more)


def problems(tree: Tree) -> list[str]:
    """A sentence for each file that could not be read."""
    return [f"{tree.path}/{path}: {reason}" for path, reason in tree.unreadable.items()]


def way_back(tree: Tree) -> str:
    """What to type there when its state cannot be used: the last good one, or none at all."""
    try:
        state_file.parse(tree.last_good)
    except Malformed as error:
        if str(error).endswith(state_file.RUN_NEWER):
            return f"The last good state stands beside it: {error}"
        left = [STATE] * (STATE in tree.states) + [LAST_GOOD] * bool(tree.last_good)
        away = "; ".join(f"mv {name} {name}.broken" for name in left)
        return (
            f"Restore it there from a backup, or move it away ({away}) and give settings such as TLS_MODE beside the "
            "command"
        )
    return f"The last good state stands beside it: put it back there (cp {LAST_GOOD} {STATE}), then adopt it"


def _names(path: str) -> list[str]:
    with _looking_at(path):
        return sorted(os.listdir(path))


@contextlib.contextmanager
def _looking_at(path: str) -> Iterator[None]:
    """What the system has against that is an InputError, which names the directory."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise InputError(f"{path} cannot be read ({reason}): name the directory of an existing deployment") from None


def _versions(path: str) -> Iterator[str]:
    """The public tool's versions, the latest first."""
    folder = os.path.join(path, _VERSIONS)
    names = _names(folder) if os.path.isdir(folder) else []
    numbers = {int(name[1:]): name for name in names if re.fullmatch(r"v[1-9]\d{0,8}", name)}
    for number in sorted(numbers, reverse=True):
        if os.path.exists(os.path.join(folder, numbers[number], "deployment_state.yaml")):
            yield numbers[number]


def _bytes(path: str) -> bytes:
    try:
        return read_input(path)
    except Malformed:  # it is told when the file is taken
        return b""


def _take(tree: Tree, into: dict[str, bytes], name: str, path: str) -> None:
    whole = os.path.join(tree.path, path)
    if _is_absent(whole):
        return
    try:
        into[name] = read_input(whole)
    except Malformed as error:
        tree.unreadable[path] = str(error)


def _is_absent(path: str) -> bool:
    """Whether nothing stands there; behind a link that leads nowhere, or in a closed folder, something may."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        above = os.path.dirname(path)
        return os.path.exists(above) or _is_absent(above)
    except OSError:
        pass
    return False


def _secrets_folder(tree: Tree) -> str:
    """Where the secrets stand: older compose files take SECRETS_DIR, with a path of the host."""
    try:
        said = dotenv.parse(tree.files.get(ENV, b"")).values.get("SECRETS_DIR", "")
    except Malformed:  # `understand` says so
        said = ""
    name = os.path.basename(os.path.normpath(said)) if said else SECRETS
    return name if os.path.isdir(os.path.join(tree.path, tree.base, name)) else SECRETS
