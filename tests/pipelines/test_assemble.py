"""Assembly reads what it needs of the fragments, and no footer for each shard."""

import collections
import pathlib
import shutil
from typing import Any

import building
import pytest

from gato.pipelines import assemble


def test_a_footer_is_not_parsed_again_for_every_shard(
    undisturbed: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the time to assemble grows with the square of the input."""
    opened: collections.Counter[str] = collections.Counter()
    real = assemble.FragmentReader

    def reader(path: str, dtype: str) -> Any:
        opened[path] += 1
        return real(path, dtype)

    monkeypatch.setattr(assemble, "FragmentReader", reader)
    output = tmp_path / "out"
    fragments = undisturbed.output / "_fragments"
    shutil.copytree(fragments, output / "_fragments")
    assert building.run_build(undisturbed.config, output) == 0
    assert building.contents(output) == undisturbed.contents
    assert len(opened) == 8
    # Once for the shards, of which there are four for the walks, and once for their
    # demonstrations.
    assert set(opened.values()) <= {1, 2}
