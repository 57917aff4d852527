"""Who may look into which room: read from the imports, those for type checkers included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.runs import ROOT

PACKAGE = ROOT / "setup"

# From the ground up: a module imports only from rows that stand before its own.
ROWS = (
    {"errors", "config.hosts", "formats.yaml_file", "console", "wizard.terminal"},
    {"config.types", "volume.directories", "environment", "deploy.render", "formats.dotenv"},
    {"config.model", "volume.lock", "formats.compose_file"},
    {"volume.atomic"},
    {"config.values", "volume.volume", "wizard.plain", "wizard.prompt", "wizard.questions", "tls.pem"},
    {"wizard.confirm"},
    {"config.derived", "tls.certificates"},
    {"config.settings", "config.secrets", "config.rules"},
    {"config.sources", "config.resolver", "secrets.plan", "deploy.targets", "flags"},
    {"tls.trust_store"},
    {
        "config.config_file",
        "secrets.guards",
        "secrets.rotation",
        "tls.authority",
        "tls.provided",
        "formats.dotenv_merge",
        "config.upgrades",
        "checks.consistency",
        "checks.network",
    },
    {"tls.plan"},
    {"deploy.steps", "volume.backups"},
    {"state_file"},
    {"state_manager", "commands.adopt.source"},
    {"commands.adopt.interpret"},
    {"commands.adopt.plan"},
    {"deploy.planner", "deploy.report", "deploy.baseline", "checks.volume", "deploy.redact"},
    {"deploy.reconcile"},
    {"deploy.diff"},
    {"deploy.session"},
    {"deploy.transaction", "checks.run"},
    {"deploy.summary"},
    {"wizard.dialogue"},
    {"configure"},
    {"commands.diff"},
    {"commands.export", "commands.rotate", "commands.adopt.command", "commands.history"},
    {"commands.restore"},
    {"commands.registry"},
    {"cli"},
    {"__main__"},
)
ROW = {name: number for number, names in enumerate(ROWS) for name in names}

LONGEST = 400

# Third party -> its only importers; the standard library's ways to the outside -> their only users.
ONLY = {
    "prompt_toolkit": {"wizard.prompt"},
    "jinja2": {"deploy.render"},
    "yaml": {"formats.yaml_file", "state_file"},
    "idna": {"config.hosts"},
    "cryptography": {"tls.certificates", "tls.authority"},
    "termios": {"wizard.terminal", "wizard.prompt"},
    "fcntl": {"volume.lock"},
    "subprocess": set(),
    "socket": {"checks.network"},
    "ssl": {"checks.network"},
    "http": {"checks.network"},
    "threading": {"checks.network"},
    "urllib": set(),
    "pickle": set(),
    "tempfile": set(),
    "logging": set(),
    "random": set(),
    "secrets": set(),
}
ONLY_NAMES = {
    "os.environ": {"configure", "cli"},
    "os.getenv": set(),
    "sys.stdout": {"console", "wizard.prompt"},
    "sys.stderr": {"console"},
    "sys.stdin": {"console", "wizard.terminal", "wizard.dialogue"},
    "sys.exit": {"__main__"},
    "os.write": {"__main__", "console"},
    "os.rename": {"volume.volume", "volume.atomic"},
    "os.replace": set(),
    "os.link": {"volume.atomic"},
    "os.unlink": {"volume.volume", "volume.directories", "volume.atomic", "volume.lock"},
    "os.remove": set(),
    "os.rmdir": {"volume.directories"},
    "os.mkdir": {"volume.directories"},
    "os.makedirs": {"deploy.render"},  # `bake`, which the image's build runs
    "os.chmod": set(),
    "os.chown": set(),
    "os.fchmod": {"volume.directories"},
    "os.ftruncate": {"volume.lock"},
    "os.symlink": set(),
    "os.urandom": {"secrets.plan"},
    "os.system": set(),
    "time.time": {"commands.rotate"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """A module's dotted name below the package: `cli`, or `volume.lock`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    """Dotted names of everything a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_of(path: Path) -> set[str]:
    """The modules of this package that a module imports from."""
    inside = {name.removeprefix("setup.") for name in imported(path) if name.startswith("setup.")}
    return {module for module in ROW for name in inside if name == module or name.startswith(f"{module}.")}


def used_names(path: Path) -> set[str]:
    """Names such as `os.environ` that a module uses, however it imported them."""
    dotted = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    return dotted | imported(path)


def test_every_module_has_its_row_and_no_row_names_another() -> None:
    assert {name_of(path) for path in modules() if path.stem != "__init__"} == set(ROW)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_from_lower_rooms(path: Path) -> None:
    if path.stem == "__init__":
        assert imported(path) == set()
        return
    upward = {name for name in rooms_of(path) if ROW[name] >= ROW[name_of(path)]}
    assert not upward, f"{name_of(path)} imports from {upward}, which do not stand below it"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_no_module_is_too_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{path.name} has {lines} lines: find the room that wants to come out of it"


def test_nothing_shadows_the_package() -> None:
    assert not (ROOT / "setup.py").exists()
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {
        *(path.name for path in PACKAGE.glob("*.py")),
        "defaults.yaml",
    }


@pytest.mark.parametrize("name", ONLY)
def test_an_outside_package_has_its_only_importers(name: str) -> None:
    users = {name_of(path) for path in modules() if any(f"{one}.".startswith(f"{name}.") for one in imported(path))}
    assert users == ONLY[name]


@pytest.mark.parametrize("name", ONLY_NAMES)
def test_a_way_to_the_outside_has_its_only_users(name: str) -> None:
    assert {name_of(path) for path in modules() if name in used_names(path)} <= ONLY_NAMES[name]


def test_nothing_prints_asks_or_evaluates() -> None:
    forbidden = {"print", "input", "breakpoint", "eval", "exec", "compile", "__import__"}
    for path in modules():
        called = {
            node.func.id
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & forbidden, path.name


def test_the_pure_rooms_open_no_file() -> None:
    pure = {
        "errors",
        "config.hosts",
        "config.types",
        "config.model",
        "config.values",
        "config.derived",
        "config.settings",
        "config.secrets",
        "config.resolver",
    }
    pure |= {
        "deploy.targets",
        "config.config_file",
        "deploy.steps",
        "secrets.plan",
        "deploy.report",
        "formats.dotenv",
        "formats.compose_file",
        "commands.adopt.interpret",
        "secrets.rotation",
    }
    for name in pure:
        path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
        opened = {one for one in used_names(path) if one in ("os.open", "os.fdopen", "os.walk", "os.listdir")}
        called = {getattr(node.func, "id", "") for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)}
        assert not opened and "open" not in called, name


def test_contributing_names_every_module() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = {name for name in ROW if f"`{name}`" in text}
    assert named == set(ROW)
