"""Read YAML with PyYAML's parser in C, because the one in Python takes most of the time of a test that reads stacks."""

from __future__ import annotations

from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str | bytes) -> Any:
    return yaml.load(text, _LOADER)


def read_yaml_all(text: str | bytes) -> list[Any]:
    return list(yaml.load_all(text, _LOADER))
