"""Assembly reads of the fragments what it needs, and no footer."""

import pathlib
import shutil
from typing import Any

import building
import pytest
import raw_inputs

from gato.pipelines import assemble, demonstrations, fragment
from gato.schemas import files


class Watch:
    """What is read while shards are assembled.

    Attributes:
        used: Bytes of tokens, kinds and images of the windows and their prompts.
        read: Bytes that were read of fragments.
        footers: Paths of footers that were read.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, token_bytes: int = 2) -> None:
        self.used = self.read = 0
        self.shards = 0
        self.footers: list[str] = []
        assembling = False
        real_assemble = assemble.ShardAssembler.assemble
        real_read, real_footer = files.RangeReader.read, fragment.Footer.__init__

        def assemble_shard(self_: Any, name: Any, blocks: Any) -> Any:
            nonlocal assembling
            for block in blocks:
                for prefix in ("", "prompt_"):
                    slots = int(block.windows[f"{prefix}slots"].sum())
                    images = int(block.windows[f"{prefix}image_bytes"].sum())
                    self.used += (token_bytes + 1) * slots + images
            self.shards += 1
            assembling = True
            try:
                return real_assemble(self_, name, blocks)
            finally:
                assembling = False

        def read(self_: Any, ranges: list[tuple[int, int]]) -> Any:
            if assembling:
                assert self_.path.endswith(".data")
                self.read += sum(stop - start for start, stop in ranges)
            return real_read(self_, ranges)

        def footer(self_: Any, data: bytes, path: str) -> None:
            if assembling:
                self.footers.append(path)
            real_footer(self_, data, path)

        monkeypatch.setattr(assemble.ShardAssembler, "assemble", assemble_shard)
        monkeypatch.setattr(files.RangeReader, "read", read)
        monkeypatch.setattr(fragment.Footer, "__init__", footer)


def test_a_shard_needs_no_footer(
    undisturbed: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the time to assemble grows with the square of the input."""
    watch = Watch(monkeypatch)
    opened: list[str] = []
    real = fragment.read_footer

    def read_footer(path: str) -> Any:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(demonstrations, "read_footer", read_footer)
    output = tmp_path / "out"
    fragments = undisturbed.output / "_fragments"
    shutil.copytree(fragments, output / "_fragments")
    assert building.run_build(undisturbed.config, output) == 0
    assert building.contents(output) == undisturbed.contents
    assert watch.shards > 5
    assert watch.footers == []
    # Demonstrations take each footer once.
    assert 0 < len(opened) == len(set(opened))


def test_little_more_is_read_than_used(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes read from fragments are at most four times the bytes used."""
    for number in range(3):
        texts = raw_inputs.texts(number, 400, words=(1, 60))
        raw_inputs.write_jsonl(tmp_path / "raw" / "text" / f"{number}.jsonl", texts)
        walks = raw_inputs.random_walks(number, 12)
        raw_inputs.write_minari(tmp_path / "raw", f"toy/walk{number}/a-v0", walks)
    pixels = raw_inputs.pixels(seed=0, num_episodes=8)
    raw_inputs.write_minari(tmp_path / "raw", "toy/pixels/a-v0", pixels)
    samples = raw_inputs.captioned_images(6, 40, captions={5: 2})
    raw_inputs.write_webdataset(tmp_path / "raw" / "pairs" / "0.tar", samples)
    shared = {"num_shards": 20}
    minari = shared | {"format": "minari", "filter": {"by": "none"}}
    config = raw_inputs.write_config(
        tmp_path / "build.yaml",
        [
            {"name": "walk", "paths": ["raw/toy/walk*/*"]} | minari,
            {"name": "pixels", "paths": ["raw/toy/pixels/*"]} | minari,
            {"name": "pairs", "format": "webdataset", "paths": ["raw/pairs/*"]}
            | shared,
            {"name": "text", "format": "text", "paths": ["raw/text/*"]} | shared,
        ],
        **building.SETTINGS,
    )
    for name in ("walk", "pixels", "pairs", "text"):
        with monkeypatch.context() as patch:
            watch = Watch(patch)
            assert building.run_build(config, tmp_path / name, "--datasets", name) == 0
        assert watch.shards > 20
        assert watch.used < watch.read <= 4 * watch.used, name
        print(f"{name}: {watch.read / watch.used:.2f} times what is used")
