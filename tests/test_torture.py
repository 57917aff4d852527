"""A sample of every layer of `make torture`: the promises of docs/reliability.md, tried at real calls of real runs."""

from __future__ import annotations

import pytest
from support import require_root, require_strace

from tests.torture.__main__ import tried

# Layer -> how many cases its sample has at least.
LEAST = {"kills": 300, "errors": 300, "power": 60, "full": 50, "races": 60, "carried": 7000}
MOUNTING = ("power", "full")
DOCKER = ("carried",)


@pytest.mark.parametrize(
    "layer", [pytest.param(layer, marks=pytest.mark.docker) if layer in DOCKER else layer for layer in LEAST]
)
def test_a_sample_of_every_layer_finds_nothing(layer: str) -> None:
    require_strace()
    if layer in MOUNTING:
        require_root()
    result = tried(layer, sample=True)
    assert result.violations == []
    assert result.cases >= LEAST[layer]
