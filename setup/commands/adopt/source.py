"""Read a deployment that avatar-setup did not write into memory: its layout, and the files that describe it.

Nothing is written, and only the named directory is read, as its owner. Links are followed inside it only.
"""

from __future__ import annotations

import contextlib
import os
import re

from setup import state_file
from setup.config.secrets import SECRETS
from setup.environment import shell_word
from setup.errors import Busy, DecisionNeeded, InputError
from setup.formats import dotenv
from setup.formats.yaml_file import Malformed, read_input
from setup.typed import TYPE_CHECKING, NamedTuple
from setup.volume import lock
from setup.volume.layout import (
    AUTHENTIK,
    COMPOSE,
    COMPOSE_NAMES,
    ENV,
    HISTORY,
    KUBERNETES,
    KUBERNETES_NETWORK,
    KUBERNETES_NGINX,
    KUBERNETES_WORKLOADS,
    LABEL_KEY,
    LAST_GOOD,
    LOCK,
    MAIN_FILES,
    NGINX,
    RESTORE_MARK,
    SECRETS_FOLDER,
    STACK_EMPTY,
    STACK_STATE,
    STATE,
    SWARM_FILES,
    TLS_FOLDER,
    WRITTEN,
    File,
    written_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# The files that override a compose file, of which the first counts.
OVERRIDES = tuple(f"{name}.override.{ending}" for name in ("compose", "docker-compose") for ending in ("yml", "yaml"))
_VERSIONS, _GENERATED = ".deployment_states", "generated_files"  # of the public deployment tool since its release 2.7
# What a deployment usually has, and the report need not mention.
_USUAL = {
    *(ENV, STATE, SECRETS_FOLDER, os.path.dirname(NGINX), TLS_FOLDER, AUTHENTIK),
    *(_VERSIONS, _GENERATED, "user_config", ".avatar-templates"),
    *(LABEL_KEY, LAST_GOOD, LOCK, HISTORY, WRITTEN, *COMPOSE_NAMES),
    *(*SWARM_FILES, STACK_EMPTY, *MAIN_FILES, KUBERNETES),
}


class Tree(NamedTuple):
    """The files of a deployment: `files` by their path below `base`, all else by its path below `path`.

    `states` are the state files, the latest first. `last_good` is the backup of a state file of avatar-setup, b"" if
    there is none. `unreadable` has the reason for each file that could not be read. `compose` names the compose file,
    and those that override it, `secrets` the folder of the secrets.
    """

    path: str
    base: str
    files: Mapping[str, bytes]
    states: Mapping[str, bytes]
    unreadable: Mapping[str, str]
    last_good: bytes
    others: tuple[str, ...]
    compose: tuple[str, ...] = ()
    secrets: str = SECRETS_FOLDER

    @property
    def problems(self) -> list[str]:
        """A sentence for each file that could not be read."""
        return _problems(self.path, self.unreadable)

    def lacks(self, path: str) -> bool:
        """Tell whether a file below the deployment is missing, so that nothing runs with it."""
        places = [os.path.join(self.path, self.base, path), os.path.join(self.path, path)]
        return not os.path.isabs(path) and all(map(_is_absent, places))

    @property
    def has_own_state(self) -> bool:
        """Whether it has a state file of avatar-setup."""
        return state_file.is_ours(self.states.get(STATE, b""))


def read_tree(path: str) -> Tree:
    """Read the deployment in a directory; raise InputError if there is none.

    A run that writes there meanwhile changes the state first: what was read is then from two deployments, and is read
    again. A run that goes on for longer is reported by whoever takes the lock.
    """
    place = os.path.join(path, STATE)
    for _ in range(3):
        before = _read_or_empty(place)
        tree = _read_tree(path)
        if _read_or_empty(place) == before:
            break
    return tree


def _read_tree(path: str) -> Tree:
    names = _list(path)
    ours = STATE in names and state_file.is_ours(_read_or_empty(os.path.join(path, STATE)))
    versions = _version_states(path) if _VERSIONS in names and not ours else []
    base = _GENERATED if versions else ""
    below = _list(os.path.join(path, base)) if base in names or not base else []
    states, unreadable = _read(path, {state: state for state in versions or [STATE]})
    last_good = _read_or_empty(os.path.join(path, LAST_GOOD)) if LAST_GOOD in names else b""
    if STATE not in names and state_file.is_ours(last_good):
        unreadable[STATE] = f"it is missing. {describe_recovery(False, last_good)}"

    written = [written_path(name) for name in (ENV, COMPOSE, NGINX)] if ours else []
    clustered = (KUBERNETES_WORKLOADS, KUBERNETES_NETWORK, KUBERNETES_NGINX)
    known = (ENV, NGINX, STACK_STATE, *MAIN_FILES[1:], *clustered, *written)
    files, failed = _read(path, {name: os.path.join(base, name) for name in known})
    compose, missing = _compose_files(below, files.get(ENV, b""))
    composed, failed_compose = _read(path, {name: os.path.join(base, name) for name in compose})
    folder = _secrets_folder(os.path.join(path, base), files.get(ENV, b""), b"\n".join(composed.values()))
    links = _foreign_links(path, os.path.join(base, folder)) if folder in below else []
    secrets, failed_secrets = _read_secrets(path, os.path.join(base, folder)) if folder in below else ({}, {})
    tree = Tree(
        path,
        base,
        files | composed | secrets,
        states,
        unreadable | failed | missing | failed_compose | failed_secrets,
        last_good,
        (*sorted(set(names) - _USUAL - {folder}), *links),
        tuple(compose),
        folder,
    )
    if not tree.states and not tree.unreadable and ENV not in below and folder not in below:
        raise InputError(
            f"{path} holds no deployment: neither .env and .secrets/, nor {STATE}, nor {_VERSIONS}/. Name the "
            "directory of an existing one; in a container, mount it: -v /old/avatar:/old:ro avatar-setup --adopt /old"
        )
    return tree


def read_more(tree: Tree, paths: Iterable[str]) -> tuple[list[File], list[str]]:
    """Read further files below the base, skipping absent ones; return a problem for each that cannot be read.

    The public tool looks for certificates beside its generated files too, from where it is started.
    """
    places = {}
    for path in paths:
        place = os.path.join(tree.base, path)
        places[path] = path if _is_absent(os.path.join(tree.path, place)) else place
    contents, unreadable = _read(tree.path, places)
    files = []
    with _as_input_error(tree.path):
        for path, data in contents.items():
            mode = os.stat(os.path.join(tree.path, places[path])).st_mode & 0o777
            files.append(File(path, data, mode))
    return files, _problems(tree.path, unreadable)


def is_at(path: str, output_dir: str) -> bool:
    """Tell whether a deployment lies in the output directory itself, whatever its path."""
    with _as_input_error(path):
        source = os.stat(path)
    with contextlib.suppress(OSError):  # a problem of the output directory is reported when that is opened
        return os.path.samestat(source, os.stat(output_dir))
    return False


def require_finished(tree: Tree) -> None:
    """Raise Busy while another run works on a deployment, and name what to finish first if one was interrupted."""
    with _as_input_error(tree.path):
        descriptor = os.open(tree.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock.require_free(descriptor)
    except Busy as error:
        raise Busy(f"{tree.path}: {error}") from None
    finally:
        os.close(descriptor)
    interrupted = _read_or_empty(os.path.join(tree.path, RESTORE_MARK)).decode(errors="replace").strip()
    if interrupted:
        raise DecisionNeeded(
            f"{tree.path}: the restore of {interrupted} was interrupted. Finish it there first (avatar-setup --restore "
            f"{interrupted}, with that directory as the output), then adopt it"
        )
    with contextlib.suppress(Malformed):  # `interpret` reports that, and another tool's state has no steps
        if {*state_file.parse(tree.states.get(STATE, b"")).steps.values()} != {state_file.COMPLETED}:
            raise InputError(
                f"{tree.path} is not complete: a run there ended early. Finish it there first (avatar-setup, with "
                "that directory as the output), then adopt it"
            )


def describe_recovery(has_state: bool, last_good: bytes) -> str:
    """Say what to type if the state file cannot be used: copy the last good one back, or move both away."""
    try:
        state_file.parse(last_good)
    except Malformed as error:
        if isinstance(error, state_file.WrittenByNewer):
            return f"{LAST_GOOD} beside it cannot be used either: {error}"
        names = [STATE] * has_state + [LAST_GOOD] * bool(last_good)
        away = "; ".join(f"mv {name} {name}.broken" for name in names)
        return (
            f"Restore it there from a backup, or move it away ({away}) and give settings such as TLS_MODE beside the "
            "command"
        )
    return f"{LAST_GOOD} beside it is whole: copy it there (cp {LAST_GOOD} {STATE}), then adopt it"


def _list(path: str) -> list[str]:
    with _as_input_error(path):
        return sorted(os.listdir(path))


@contextlib.contextmanager
def _as_input_error(path: str) -> Iterator[None]:
    """Turn an error of the system into an InputError that names the directory."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise InputError(f"{path} cannot be read ({reason}): name the directory of an existing deployment") from None


def _version_states(path: str) -> list[str]:
    """Return the paths of the public tool's state files, the latest version first."""
    folder = os.path.join(path, _VERSIONS)
    numbers = []
    for name in _list(folder) if os.path.isdir(folder) else []:
        if re.fullmatch(r"v[1-9]\d{0,8}", name) and os.path.exists(os.path.join(folder, name, "deployment_state.yaml")):
            numbers.append(int(name[1:]))
    return [f"{_VERSIONS}/v{number}/deployment_state.yaml" for number in sorted(numbers, reverse=True)]


def _compose_files(names: list[str], env: bytes) -> tuple[list[str], dict[str, str]]:
    """Return the compose files that Compose reads, the first one first, and a reason for each that is elsewhere."""
    try:
        values = dotenv.parse(env).values
    except Malformed:  # `interpret` reports that
        values = {}
    given = values.get("COMPOSE_FILE", "").split(values.get("COMPOSE_PATH_SEPARATOR") or ":")
    given = [os.path.normpath(name) for name in given if name]
    if not given:
        first = [name for name in COMPOSE_NAMES if name in names][:1]
        return first + [name for name in OVERRIDES if name in names and first][:1], {}
    why = "COMPOSE_FILE in .env names it, and it is not there: put it beside .env"
    return [name for name in given if name in names], {name: why for name in given if name not in names}


def _secrets_folder(base: str, env: bytes, compose: bytes) -> str:
    """Return the folder of the secrets: that of SECRETS_DIR, with a path of the host, or that of the compose file."""
    try:
        given = dotenv.parse(env).values.get("SECRETS_DIR", "")
    except Malformed:  # `interpret` reports that
        given = ""
    match = re.search(rb"\bfile:\s*[\"']?(?:\./)?([\w.-]+)/db_password\b", compose)
    named = match[1].decode() if match else SECRETS_FOLDER
    name = os.path.basename(os.path.normpath(given)) if given else named
    return name if os.path.isdir(os.path.join(base, name)) else SECRETS_FOLDER


def _read_secrets(top: str, folder: str) -> tuple[dict[str, bytes], dict[str, str]]:
    paths, links = {}, _foreign_links(top, folder)
    for name in _list(os.path.join(top, folder)):
        if not name.startswith(".") and os.path.join(folder, name) not in links:
            paths[f"{SECRETS_FOLDER}/{name}"] = os.path.join(folder, name)
    return _read(top, paths)


def _foreign_links(top: str, folder: str) -> list[str]:
    """Return the links among the secrets that no secret of ours has the name of: they may lead anywhere."""
    links = []
    for name in _list(os.path.join(top, folder)):
        if name not in SECRETS and os.path.islink(os.path.join(top, folder, name)):
            links.append(os.path.join(folder, name))
    return links


def _leads_outside(top: str, whole: str) -> bool:
    """Tell whether a link on the way leads out of the directory."""
    return not os.path.realpath(whole).startswith(f"{os.path.realpath(top)}/")


def _first_link(top: str, path: str) -> str:
    """Return the first part of a path that is a link."""
    names = path.split("/")
    for number in range(1, len(names)):
        if os.path.islink(os.path.join(top, *names[:number])):
            return "/".join(names[:number])
    return path


def _read(top: str, paths: Mapping[str, str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read the files that exist, by name; return the reason for each that cannot be read, by its path."""
    contents, unreadable = {}, {}
    for name, path in paths.items():
        whole = os.path.join(top, path)
        if _is_absent(whole):
            continue
        if _leads_outside(top, whole):
            link = shell_word(_first_link(top, path))
            unreadable[path] = (
                f"a link leads out of {top}, and is not followed: replace it with what it leads to, there, with "
                f"cp -rL {link} {link}.new && rm {link} && mv {link}.new {link}"
            )
            continue
        try:
            contents[name] = read_input(whole)
        except Malformed as error:
            unreadable[path] = str(error)
    return contents, unreadable


def _problems(top: str, unreadable: Mapping[str, str]) -> list[str]:
    return [f"{top}/{path}: {reason}" for path, reason in unreadable.items()]


def _read_or_empty(path: str) -> bytes:
    if _leads_outside(os.path.dirname(path), path):
        return b""
    try:
        return read_input(path)
    except Malformed:  # reported when the file is read for its contents
        return b""


def _is_absent(path: str) -> bool:
    """Tell whether nothing exists at a path; behind a broken link, or in a closed folder, something may."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        above = os.path.dirname(path)
        return os.path.exists(above) or _is_absent(above)
    except OSError:
        pass
    return False
