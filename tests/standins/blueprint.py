"""Stands in for what Authentik does with a blueprint: `blueprint.py apply FILE` and `blueprint.py shell CODE`.

`apply` reads the file as the original does, tags and all, refuses it whole where the original would (unknown tags and
models, a null, a reference to no entry), and keeps each object as a row of Authentik's own database. `shell` runs
Python with `authentik.APP.models` in it, of whose querysets `filter(...)` and `exists()` answer from those rows.
Objects that Authentik brings itself are missing: what is looked up and not found is null, and accepted as such.
"""

import importlib.abc
import importlib.machinery
import json
import os
import subprocess
import sys
import types
import uuid

import yaml

TABLE = "CREATE TABLE IF NOT EXISTS standin_objects (id uuid PRIMARY KEY, model text, fields jsonb)"
FOLDER = "/blueprints"
APPS = ("blueprints", "brands", "core", "events", "flows", "policies", "providers", "rbac", "sources", "stages")


class Invalid(Exception):
    pass


def sql(statement, **values):
    """What PostgreSQL answers, its values quoted by psql."""
    variables = [word for name, value in values.items() for word in ("-v", f"{name}={value}")]
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *variables]
    return subprocess.run(command, input=statement, text=True, capture_output=True, check=True).stdout


# --- reading ---------------------------------------------------------------------------------------------


class Loader(yaml.SafeLoader):
    pass


class Tag:
    def __init__(self, name, arguments):
        self.name, self.arguments = name, arguments


def construct(loader, suffix, node):
    if suffix not in ("Env", "KeyOf", "Find", "Format", "Context"):
        raise Invalid(f"unknown tag !{suffix}")
    if isinstance(node, yaml.ScalarNode):
        return Tag(suffix, [node.value])
    return Tag(suffix, loader.construct_sequence(node, deep=True))


Loader.add_multi_constructor("!", construct)


class Resolver:
    def __init__(self, context):
        self.context, self.ids = context, {}

    def value(self, value):
        if isinstance(value, Tag):
            return getattr(self, value.name.lower())(*value.arguments)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value

    def env(self, name, default=None):
        return os.environ.get(name) or default

    def keyof(self, entry):
        if entry not in self.ids:
            raise Invalid(f"KeyOf: failed to find entry with id of {entry}")
        return self.ids[entry]

    def find(self, model, *conditions):
        wanted = {name: self.value(value) for name, value in conditions}
        return identified(model, wanted)

    def format(self, text, *arguments):
        return text % tuple(self.value(argument) for argument in arguments)


def identified(model, wanted):
    """The id of the object with these fields, or with this primary key; None if there is none."""
    fields = {name: value for name, value in wanted.items() if name != "pk"}
    found = sql(
        "SELECT id FROM standin_objects WHERE model = :'model' AND"
        " (id::text = :'key' OR :'fields' <> '{}' AND fields @> :'fields'::jsonb) ORDER BY id LIMIT 1",
        model=model,
        key=wanted.get("pk", ""),
        fields=json.dumps(fields),
    )
    return found.strip() or None


# --- the two commands ------------------------------------------------------------------------------------


def check(entry, values):
    app, _, model = str(entry.get("model")).partition(".")
    if not model or not app.startswith(tuple(f"authentik_{name}" for name in APPS)):
        raise Invalid(f"App or Model does not exist: {entry.get('model')}")
    if null := [name for name, value in values.items() if value is None and not looked_up(entry, name)]:
        raise Invalid(f"{entry['model']}: {', '.join(null)} may not be null")


def looked_up(entry, name):
    given = (entry.get("attrs") or {}).get(name, (entry.get("identifiers") or {}).get(name))
    return isinstance(given, Tag) and given.name == "Find"


def apply(path):
    with open(os.path.join(FOLDER, path), encoding="utf-8") as file:
        document = yaml.load(file, Loader)
    resolver = Resolver(document.get("context") or {})
    for entry in document["entries"]:
        if not all(resolver.value(condition) for condition in entry.get("conditions") or []):
            continue
        state = entry.get("state", "present")
        identifiers, attrs = (resolver.value(entry.get(part) or {}) for part in ("identifiers", "attrs"))
        check(entry, attrs | identifiers)
        if entry["model"].startswith("authentik_blueprints.meta") or (state == "created" and not attrs):
            continue
        row = identified(entry["model"], identifiers)
        if state == "absent":
            sql("DELETE FROM standin_objects WHERE id::text = :'row'", row=row or "")
            continue
        if not (row and state == "created"):
            row = save(entry["model"], row or identifiers.pop("pk", None) or str(uuid.uuid4()), attrs | identifiers)
        resolver.ids[entry.get("id")] = row


def save(model, row, values):
    values.pop("pk", None)
    sql(
        "INSERT INTO standin_objects VALUES (:'row', :'model', :'values')"
        " ON CONFLICT (id) DO UPDATE SET fields = standin_objects.fields || EXCLUDED.fields",
        row=row,
        model=model,
        values=json.dumps(values),
    )
    return row


class Models(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Every module below `authentik`; each name in it is a model."""

    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.startswith("authentik") else None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        app = "_".join(spec.name.split(".")[:-1])
        module.__getattr__ = lambda name: Model(f"{app}.{name.lower()}")
        return module

    def exec_module(self, module):
        pass


class Model:
    def __init__(self, name):
        self.name, self.objects, self.wanted = name, self, {}

    def filter(self, **wanted):
        found = Model(self.name)
        found.wanted = wanted
        return found

    def exists(self):
        own = {name: value for name, value in self.wanted.items() if "__" not in name}
        for name, value in self.wanted.items():
            reference, _, field = name.partition("__")
            if field:
                clause = "SELECT id FROM standin_objects WHERE fields @> :'wanted'::jsonb"
                own[reference] = sql(clause, wanted=json.dumps({field: value})).strip()
        return identified(self.name, own) is not None


def main():
    command, argument = sys.argv[1:]
    sql(TABLE)
    if command == "shell":
        sys.meta_path.insert(0, Models())
        exec(compile(argument, "shell", "exec"), {"__name__": "shell"})
        return
    try:
        apply(argument)
    except (Invalid, OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"Blueprint invalid\n\t{error}")


main()
