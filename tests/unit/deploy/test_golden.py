"""The generated trees, byte for byte. After a change that is meant: python -m tests.support.trees --update"""

from __future__ import annotations

import pytest

from tests.support import trees


def test_golden_trees():
    differences = {name: trees.difference(name) for name in trees.CONFIGURATIONS}
    changed = [name for name, difference in differences.items() if difference]
    if changed:
        about = trees.CONFIGURATIONS[changed[0]].about
        pytest.fail(
            f"the trees {', '.join(changed)} are not the stored ones; if that is meant, `python -m tests.support.trees "
            f"--update` stores them. {changed[0]} ({about}):\n{differences[changed[0]]}",
            pytrace=False,
        )


def test_every_stored_tree_is_made():
    assert trees.stored_names() == trees.CONFIGURATIONS.keys()
    assert {path.name for path in trees.GOLDEN.iterdir() if path.is_dir()} == set(trees.WHOLE)


@pytest.mark.parametrize("name", trees.CONFIGURATIONS)
def test_a_difference_tells_every_line(name):
    files = trees.made_files(name)
    assert all(data.endswith(b"\n") and b"\r" not in data for data in files.values()), "a diff would not show it"
    listed = [line.split(" ", 2)[1:] for line in files[trees.LIST].decode().splitlines()]
    assert {path for _, path in listed} >= files.keys() - {trees.LIST}


def test_the_same_answers_give_the_same_bytes():
    configuration = trees.CONFIGURATIONS["telemetry-redirect"]
    again = trees.targets(configuration.settings, configuration.secrets)
    assert again.all == trees.named_targets("telemetry-redirect").all
