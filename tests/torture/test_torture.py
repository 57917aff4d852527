"""A sample of every layer of `make torture`: docs/internals/reliability.md, tried at real calls of real runs."""

from __future__ import annotations

import pytest

from tests.support.runs import require_root, require_strace
from tests.torture.__main__ import LAYERS, tried

# Layer -> how many cases its sample has at least.
LEAST = {
    "kills": 170,
    "errors": 280,
    "power": 60,
    "full": 50,
    "races": 60,
    "sequences": 6,
    "carried": 7000,
    "inputs": 90,
    "mutants": 6,
}
MOUNTING = ("power", "full", "mutants")
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


def test_every_layer_has_a_sample() -> None:
    assert LEAST.keys() == LAYERS.keys()
