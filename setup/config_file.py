"""`deployment-config.yaml`: the settings of a deployment in a form that can be fed back."""

from __future__ import annotations

from setup.model import File
from setup.render import quote_yaml
from setup.resolve import Resolution
from setup.values import show

CONFIG = "deployment-config.yaml"


def config_file(resolution: Resolution) -> File:
    """Every answer as a line, every default as a comment, so that feeding it back pins no default."""
    lines = ["# Written by avatar-setup. Given to --config it reproduces the run; it holds no secret.", ""]
    for key, resolved in resolution.applying().items():
        answered = key in resolution.answers
        lines.append(f"{'' if answered else '# '}{key}: {_yaml(show(resolved.value))}")
    unused = [key for key in resolution.answers if not resolution.values.applies(key)]
    lines += [f"{key}: {_yaml(resolution.answers[key].text)}" for key in unused]
    return File(CONFIG, ("\n".join(lines) + "\n").encode(), 0o600)


def _yaml(text: str) -> str:
    """A double-quoted scalar; `$$` is Compose's spelling, not YAML's."""
    return quote_yaml(text).replace("$$", "$")
