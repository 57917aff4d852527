"""The generated trees, byte for byte. After a change that is meant: python -m tests.support.trees --update"""

from __future__ import annotations

import pytest

from tests.support import trees


@pytest.mark.parametrize("name", trees.CONFIGURATIONS)
def test_golden_tree(name):
    difference = trees.difference(name)
    if difference:
        pytest.fail(
            f"the tree {name!r} ({trees.CONFIGURATIONS[name].about}) is not the stored one; if that is meant, "
            f"`python -m tests.support.trees --update` stores it\n{difference}",
            pytrace=False,
        )


def test_every_stored_tree_is_made():
    assert {path.name for path in trees.GOLDEN.iterdir()} == set(trees.CONFIGURATIONS)


def test_the_same_answers_give_the_same_bytes():
    configuration = trees.CONFIGURATIONS["telemetry-redirect"]
    again = trees.targets(configuration.settings, configuration.secrets)
    assert again.all == trees.named_targets("telemetry-redirect").all
