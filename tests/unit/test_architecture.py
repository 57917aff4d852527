"""Who may import what, how large a thing may grow, and who alone touches the world: read from the syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from setup.volume import layout
from tests.support.runs import ROOT, command, deployed, environment

PACKAGE = ROOT / "setup"

# A module imports from lower rows, from its own room, and in its own row from what stands left of it.
# A room is a package; the others are modules of the top floor.
LAYERS = (
    ("typed", "errors", "findings", "console", "environment", "step_names", "client"),
    ("formats", "volume"),
    ("config",),
    ("state_file", "state_manager", "secrets", "tls"),
    ("deploy",),
    ("checks", "wizard", "configure"),
    ("flags", "commands", "cli", "__main__"),
)
PLACE = {name: (row, column) for row, names in enumerate(LAYERS) for column, name in enumerate(names)}

LONGEST_MODULE = 400
LONGEST_FUNCTION = 40
MOST_PARAMETERS = 5
MOST_COMPREHENSIONS = 20  # per 1000 lines of the package

# Functions with more parameters, and the reason.
MANY_PARAMETERS = {
    "configure.DeploymentConfigurator.__init__": "the specification's signature, and the environment",
    "configure.DeploymentConfigurator.run": "the specification's signature",
}

# Third party -> its only importers; the standard library's ways to the outside -> their only users.
ONLY = {
    "prompt_toolkit": {"wizard.prompt"},
    "jinja2": {"deploy.templates"},
    "yaml": {"formats.yaml_file", "state_file"},
    "idna": {"config.hosts"},
    "cryptography": {"tls.certificates", "tls.chains", "tls.authority"},
    "termios": {"wizard.terminal", "wizard.prompt"},
    "fcntl": {"volume.lock"},
    "typing": {"typed"},
    "subprocess": set(),
    "socket": {"client"},
    "ssl": {"client"},
    "http": {"client"},
    "threading": {"client"},
    "urllib": {"client"},
    "pickle": set(),
    "tempfile": set(),
    "logging": set(),
    "random": set(),
    "secrets": set(),
    "dataclasses": set(),
}
ONLY_NAMES = {
    "os.environ": {"configure", "cli"},
    "os.getenv": set(),
    "sys.stdout": {"console", "wizard.prompt"},
    "sys.stderr": {"console"},
    "sys.stdin": {"console", "wizard.terminal", "wizard.dialogue"},
    "sys.exit": set(),
    "os._exit": {"__main__"},
    "os.write": {"__main__", "console"},
    "os.rename": {"volume.volume", "volume.atomic"},
    "os.replace": set(),
    "os.link": {"volume.atomic"},
    "os.unlink": {"volume.volume", "volume.directories", "volume.atomic", "volume.lock"},
    "os.remove": set(),
    "os.rmdir": {"volume.directories"},
    "os.mkdir": {"volume.directories"},
    "os.makedirs": {"deploy.templates"},  # `bake`, which the image's build runs
    "os.chmod": set(),
    "os.chown": set(),
    "os.fchmod": {"volume.directories"},
    "os.ftruncate": {"volume.lock"},
    "os.symlink": set(),
    "os.urandom": {"secrets.plan"},
    "os.system": set(),
    "time.time": set(),
}
FORBIDDEN_CALLS = {"print", "input", "breakpoint", "eval", "exec", "compile", "__import__"}
OPENING = {"os.open", "os.fdopen", "os.walk", "os.listdir", "os.scandir"}

# Rooms that open no file, and of other rooms the modules.
PURE_ROOMS = ("formats", "config")
PURE = ("errors", "deploy.targets", "deploy.steps", "secrets.plan", "secrets.rotation")
PURE_BUT = ("config.sources", "formats.yaml_file")  # read the files that an operator names

# An unchanged run imports none of these.
COSTLY = {
    "jinja2",
    "prompt_toolkit",
    "cryptography",
    "ipaddress",
    "difflib",
    "json",
    "dataclasses",
    "asyncio",
    "typing",
}


class Module(NamedTuple):
    """What the tests ask about a module; every file is parsed once."""

    name: str  # below the package: `cli`, or `volume.lock`
    path: Path
    tree: ast.Module
    lines: int
    imports: frozenset[str]  # dotted names, wherever the import stands, those for type checkers included
    attributes: frozenset[str]  # such as `os.environ`
    calls: frozenset[str]  # plain names that are called

    @property
    def room(self) -> str:
        """The package that it is in; "" on the top floor."""
        return self.name.rpartition(".")[0]

    @property
    def place(self) -> str:
        """Its name in LAYERS."""
        return self.name.partition(".")[0]

    @property
    def used(self) -> frozenset[str]:
        """Names such as `os.environ` that it uses, however it imports them."""
        return self.imports | self.attributes


@cache
def modules() -> dict[str, Module]:
    """Every module of the package but the doors of the rooms."""
    paths = (path for path in sorted(PACKAGE.rglob("*.py")) if path.stem != "__init__")
    return {module.name: module for module in map(parsed, paths)}


@cache
def doors() -> dict[str, Module]:
    """Every room's `__init__`, by the room's name."""
    paths = sorted(PACKAGE.rglob("*/__init__.py"))
    return {module.room: module for module in map(parsed, paths)}


def parsed(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imports, attributes, calls = set(), set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                imports |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                assert node.level == 0, f"{path.name} imports relatively"
                imports |= {f"{node.module}.{alias.name}" for alias in node.names}
            case ast.Attribute(value=ast.Name(id=owner)):
                attributes.add(f"{owner}.{node.attr}")
            case ast.Call(func=ast.Name(id=name)):
                calls.add(name)
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return Module(name, path, tree, len(text.splitlines()), frozenset(imports), frozenset(attributes), frozenset(calls))


@cache
def imported_modules(name: str) -> frozenset[str]:
    """The modules of this package that a module imports."""
    found = set()
    for dotted in modules()[name].imports:
        if dotted.startswith("setup."):
            inside = dotted.removeprefix("setup.")
            found |= {inside, inside.rpartition(".")[0]} & modules().keys()
    return frozenset(found)


def functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its name below the package, methods by their class."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{prefix}.{child.name}", child
                yield from below(child, f"{prefix}.{child.name}")
            elif isinstance(child, ast.ClassDef):
                yield from below(child, f"{prefix}.{child.name}")
            else:
                yield from below(child, prefix)

    return below(module.tree, module.name)


# --- rooms ---------------------------------------------------------------------------------------


def test_every_module_and_room_has_its_place() -> None:
    assert {module.place for module in modules().values()} == PLACE.keys()


def test_a_module_imports_from_lower_rows_only() -> None:
    upward = {
        f"{module.name} imports {other}"
        for module in modules().values()
        for other in imported_modules(module.name)
        if modules()[other].place != module.place and PLACE[modules()[other].place] >= PLACE[module.place]
    }
    assert upward == set()


@pytest.mark.parametrize("room", doors())
def test_a_door_names_what_other_rooms_use(room: str) -> None:
    used = {
        other.rpartition(".")[2]
        for module in modules().values()
        for other in imported_modules(module.name)
        if module.room != room == modules()[other].room
    }
    used |= {other.rpartition(".")[2] for other in doors() if other.rpartition(".")[0] == room}  # rooms in this one
    assert named(room) == sorted(used), f"__all__ in setup/{room.replace('.', '/')}/__init__.py"


def named(room: str) -> list[str]:
    """What `__all__` of a room names."""
    for node in doors()[room].tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                names: list[str] = ast.literal_eval(node.value)
                return names
    raise AssertionError(f"setup/{room}/__init__.py has no __all__")


@pytest.mark.parametrize("room", doors())
def test_a_door_has_a_docstring_and_imports_nothing(room: str) -> None:
    door = doors()[room]
    assert ast.get_docstring(door.tree)
    assert not door.imports


def test_no_modules_import_each_other() -> None:
    unfinished: list[str] = []
    finished: set[str] = set()

    def visit(name: str) -> None:
        assert name not in unfinished, " -> ".join([*unfinished[unfinished.index(name) :], name])
        if name in finished:
            return
        unfinished.append(name)
        for other in sorted(imported_modules(name)):
            visit(other)
        unfinished.pop()
        finished.add(name)

    for name in modules():
        visit(name)


def test_nothing_shadows_the_package() -> None:
    assert not (ROOT / "setup.py").exists()
    files = {path.name for path in PACKAGE.iterdir() if path.is_file() and path.suffix != ".py"}
    assert files == {"defaults.yaml"}


SUFFIXES = (layout.BACKUP_SUFFIX, layout.PROPOSAL_SUFFIX, layout.STAGED_SUFFIX)


def test_only_the_layout_spells_out_a_path_of_the_volume() -> None:
    paths = [path for name, path in vars(layout).items() if name.isupper() and isinstance(path, str)]
    files = tuple(path if "." in path else f"{path}/" for path in paths if path not in SUFFIXES)
    found = [
        f"{module.name}:{node.lineno}: {node.value!r}"
        for module in modules().values()
        if module.name != "volume.layout"
        for node in texts(module)
        if node.value.startswith(files)
    ]
    assert found == []


def texts(module: Module) -> Iterator[ast.Constant]:
    """Every text of a module but the docstrings, and parts of formatted ones."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


# --- size ----------------------------------------------------------------------------------------


def test_no_module_is_too_long() -> None:
    assert {module.name: module.lines for module in modules().values() if module.lines > LONGEST_MODULE} == {}


def test_no_function_is_too_long() -> None:
    lengths = {
        name: (node.end_lineno or 0) - node.lineno + 1
        for module in modules().values()
        for name, node in functions(module)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


def test_no_function_takes_too_much() -> None:
    many = {
        name for module in modules().values() for name, node in functions(module) if parameters(node) > MOST_PARAMETERS
    }
    assert many <= MANY_PARAMETERS.keys()


def test_loops_are_more_usual_than_comprehensions() -> None:
    kinds = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    count = len([node for module in modules().values() for node in ast.walk(module.tree) if isinstance(node, kinds)])
    lines = sum(module.lines for module in modules().values())
    assert 1000 * count / lines <= MOST_COMPREHENSIONS


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a caller fills."""
    taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len([argument for argument in taken if argument.arg not in ("self", "cls")])


# --- the outside ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONLY)
def test_an_outside_package_has_its_only_importers(name: str) -> None:
    users = {
        module.name
        for module in modules().values()
        if any(f"{imported}.".startswith(f"{name}.") for imported in module.imports)
    }
    assert users == ONLY[name]


@pytest.mark.parametrize("name", ONLY_NAMES)
def test_a_way_to_the_outside_has_its_only_users(name: str) -> None:
    assert {module.name for module in modules().values() if name in module.used} <= ONLY_NAMES[name]


def test_nothing_prints_asks_or_evaluates() -> None:
    assert {module.name for module in modules().values() if module.calls & FORBIDDEN_CALLS} == set()


def test_what_is_pure_opens_no_file() -> None:
    pure = [
        module
        for module in modules().values()
        if (module.room in PURE_ROOMS or module.name in PURE) and module.name not in PURE_BUT
    ]
    assert {module.name for module in pure} >= set(PURE)
    assert [module.name for module in pure if module.used & OPENING or "open" in module.calls] == []


def test_an_unchanged_run_imports_nothing_costly(tmp_path: Path) -> None:
    words = [sys.executable, "-X", "importtime", *command(deployed(tmp_path / "out"))[1:]]
    done = subprocess.run(
        words, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert "Nothing to do" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"setup.cli", "yaml"} <= imported
    assert COSTLY & {name.partition(".")[0] for name in imported} == set()


def test_no_annotation_is_evaluated() -> None:
    names = {module.name for module in modules().values() if any("setup.typed." in name for name in module.imports)}
    assert len(names) > 50
    assert {name for name in names if "__future__.annotations" not in modules()[name].imports} == set()
