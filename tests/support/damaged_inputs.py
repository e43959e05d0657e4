"""Small raw data sets, each with one thing wrong, beside items that are good.

    entries = [{"name": n, **case.write(root / n)} for n, case in CASES.items()]

`write` makes raw data below a folder and returns the data set's config entry, of which
the paths are absolute.
"""

import dataclasses
import gzip
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import raw_inputs
import zstandard

# Good items beside the bad ones, in every case.
GOOD = 5
# What `too_long` cases exceed and all others fit.
SEQUENCE_LENGTH = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of damage.

    Attributes:
        write: Makes the raw data and returns the config's entry.
        reason: What `quarantine.jsonl` says, None if all is kept.
        words: What its detail says, in part.
        item: How the ids, or without one the sources, of the bad items end.
        bad: How many items are bad.
        kept: How many are kept.
    """

    write: Callable[[pathlib.Path], dict[str, Any]]
    reason: str | None
    words: tuple[str, ...] = ()
    item: str = ""
    bad: int = 1
    kept: int = GOOD


CASES: dict[str, Case] = {}


def _add(name: str, write: Callable[[pathlib.Path], dict[str, Any]], **facts: Any):
    CASES[name] = Case(write=write, **facts)


def _minari(root: pathlib.Path, **options: Any) -> dict[str, Any]:
    entry = {"format": "minari", "paths": [str(root / "*" / "*")]}
    return entry | {"filter": {"by": "none"}} | options


def _text(root: pathlib.Path) -> dict[str, Any]:
    return {"format": "text", "paths": [str(root / "*")]}


def _pairs(root: pathlib.Path) -> dict[str, Any]:
    return {"format": "webdataset", "paths": [str(root / "*")]}


def _walks(
    root: pathlib.Path, name: str = "walk", count: int = GOOD + 1, **settings: Any
) -> pathlib.Path:
    walks = raw_inputs.random_walks(0, count, steps=(3, 9), **settings)
    return raw_inputs.write_minari(root, f"{name}/expert-v0", walks)


def _grids(root: pathlib.Path, size: int = 3) -> pathlib.Path:
    grids = raw_inputs.grids(0, GOOD + 1, steps=(3, 9), size=size)
    return raw_inputs.write_minari(root, "grid/expert-v0", grids)


def _cut(path: pathlib.Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


# Values. Numbers are what float32 holds exactly.


def _overwritten(
    make: Callable[..., pathlib.Path], key: str, index: Any, value: Any, **entry: Any
) -> Callable[[pathlib.Path], dict[str, Any]]:
    def write(root: pathlib.Path) -> dict[str, Any]:
        raw_inputs.overwrite_minari(make(root), 2, key, index, value)
        return _minari(root, **entry)

    return write


for _column in ("observations", "actions", "rewards"):
    for _value in (np.nan, np.inf, -np.inf):
        _add(
            f"{_column}_{_value}",
            _overwritten(
                _walks, _column, 1 if _column == "rewards" else (1, 0), _value
            ),
            reason="nonfinite",
            words=("finite", f"got {_value}"),
            item="expert-v0/2",
        )
for _value in (-1, 1024):
    _add(
        f"discrete_observation_{_value}",
        _overwritten(_grids, "observations/direction", 0, _value),
        reason="discrete_out_of_range",
        words=("'direction'", "[0, 1024)", f"got {_value}"),
        item="expert-v0/2",
    )
for _value in (-1, 7):
    _add(
        f"discrete_action_{_value}",
        _overwritten(_grids, "actions", 0, _value),
        reason="discrete_out_of_range",
        words=("action", "[0, 7)", f"got {_value}"),
        item="expert-v0/2",
    )
_add(
    "continuous_action_without_scale",
    _overwritten(_walks, "actions", (0, 1), -19.75, actions={"scale": "none"}),
    reason="action_out_of_range",
    words=("[-1, 1]", "got -19.75", "actions.clip"),
    item="expert-v0/2",
)
_add(
    "continuous_action_clipped",
    _overwritten(
        _walks, "actions", (0, 1), -19.75, actions={"scale": "none", "clip": True}
    ),
    reason=None,
    bad=0,
    kept=GOOD + 1,
)
_add(
    "continuous_action_beyond_its_space",
    _overwritten(
        lambda root: _walks(root, action_range=(-2.0, 2.0)), "actions", (0, 1), 2.5
    ),
    reason="action_out_of_range",
    words=("after scaling",),
    item="expert-v0/2",
)


# Lengths and shapes.


def _long_timestep(root: pathlib.Path) -> dict[str, Any]:
    _walks(root, count=GOOD)
    raw = raw_inputs.grids(0, 1, size=7)
    raw_inputs.write_minari(root, "grid/expert-v0", raw)
    return _minari(root)


_add(
    "timestep_longer_than_the_row",
    _long_timestep,
    reason="too_long",
    words=("a timestep must fit a row of 128 slots (sequence_length), got",),
    item="grid/expert-v0/0",
)


def _samples(number: int = GOOD + 1) -> list[raw_inputs.Captioned]:
    return raw_inputs.captioned_images(0, number, sides=(30, 60))


def _replaced_image(
    change: Callable[[bytes], bytes],
) -> Callable[[pathlib.Path], dict[str, Any]]:
    def write(root: pathlib.Path) -> dict[str, Any]:
        samples = _samples()
        samples[2] = dataclasses.replace(samples[2], image=change(samples[2].image))
        raw_inputs.write_webdataset(root / "0.tar", samples)
        return _pairs(root)

    return write


_add(
    "pair_longer_than_the_row",
    _replaced_image(
        lambda _: raw_inputs.encode_image(np.zeros((200, 200, 3), np.uint8))
    ),
    reason="too_long",
    words=("a pair must fit a row of 128 slots (sequence_length), got",),
    item="0.tar/000002",
)


def _two_shapes(root: pathlib.Path) -> dict[str, Any]:
    for name, dimensions, count in (("one", 4, GOOD), ("two", 3, 1)):
        walks = raw_inputs.random_walks(0, count, dimensions=dimensions)
        raw_inputs.write_minari(root, f"{name}/expert-v0", walks, env_id="Walk-v0")
    return _minari(root)


_add(
    "another_shape_within_a_task",
    _two_shapes,
    reason="spec_mismatch",
    words=("first",),
    item="two/expert-v0/0",
)


def _edited_episode(
    edit: Callable[[Any], None],
) -> Callable[[pathlib.Path], dict[str, Any]]:
    def write(root: pathlib.Path) -> dict[str, Any]:
        path = _walks(root) / "data" / "main_data.hdf5"
        with h5py.File(path, "r+") as file:
            edit(file["episode_4"])
        return _minari(root)

    return write


def _drop_steps(episode: Any) -> None:
    for key in ("observations", "actions", "rewards"):
        values = episode[key][:0]
        del episode[key]
        episode[key] = values


def _drop_actions(episode: Any) -> None:
    del episode["actions"]


_add(
    "episode_with_no_steps",
    _edited_episode(_drop_steps),
    reason="empty",
    words=("at least one step",),
    item="expert-v0/4",
)
_add(
    "episode_without_actions",
    _edited_episode(_drop_actions),
    reason="missing_field",
    words=("action",),
    item="expert-v0/4",
)


# Texts.


def _appended(line: bytes) -> Callable[[pathlib.Path], dict[str, Any]]:
    def write(root: pathlib.Path) -> dict[str, Any]:
        path = raw_inputs.write_jsonl(root / "a.jsonl", raw_inputs.texts(0, GOOD))
        with path.open("ab") as file:
            file.write(line + b"\n")
        return _text(root)

    return write


def _beside_good(
    name: str, make: Callable[[pathlib.Path], bytes]
) -> Callable[[pathlib.Path], dict[str, Any]]:
    """A file `name` with the bytes of `make` beside good texts."""

    def write(root: pathlib.Path) -> dict[str, Any]:
        raw_inputs.write_jsonl(root / "a.jsonl", raw_inputs.texts(0, GOOD))
        (root / name).write_bytes(make(root))
        return _text(root)

    return write


_add(
    "line_that_is_not_utf8",
    _appended(b'{"text": "caf\xe9"}'),
    reason="not_utf8",
    words=("line 6",),
    item=f"a.jsonl/{GOOD}",
)
_add(
    "file_that_is_not_utf8",
    _beside_good("b.txt", lambda _: "naïve".encode("latin-1")),
    reason="not_utf8",
    item="b.txt/0",
)
_add(
    "line_that_is_no_json",
    _appended(b'{"text": "thr'),
    reason="corrupt_record",
    item=f"a.jsonl/{GOOD}",
)
_add(
    "line_without_text",
    _appended(b'{"txt": "three"}'),
    reason="missing_field",
    words=("'text'",),
    item=f"a.jsonl/{GOOD}",
)
_add(
    "empty_text",
    _appended(b'{"text": ""}'),
    reason="empty",
    item=f"a.jsonl/{GOOD}",
)


# Damaged files.


def _damaged_hdf5(
    content: bytes | None,
) -> Callable[[pathlib.Path], dict[str, Any]]:
    def write(root: pathlib.Path) -> dict[str, Any]:
        _walks(root, "other", GOOD)
        path = _walks(root, count=3) / "data" / "main_data.hdf5"
        if content is None:
            _cut(path)
        else:
            path.write_bytes(content)
        return _minari(root)

    return write


_HDF5: Mapping[str, bytes | None] = {
    "truncated": None,
    "empty": b"",
    "no": b"not HDF5 at all" * 100,
}
for _name, _content in _HDF5.items():
    _add(
        f"{_name}_hdf5",
        _damaged_hdf5(_content),
        reason="corrupt_file",
        words=("the episodes' file cannot be read",),
        bad=3,
    )


def _cut_arrow(root: pathlib.Path) -> dict[str, Any]:
    walks = raw_inputs.random_walks(0, GOOD + 1, steps=(3, 9))
    folder = raw_inputs.write_minari(root, "walk/expert-v0", walks, data_format="arrow")
    _cut(next((folder / "data" / "2").glob("*.arrow")))
    return _minari(root)


_add("truncated_arrow", _cut_arrow, reason="corrupt_episode", item="walk/expert-v0/2")


def _damaged_metadata(content: str) -> Callable[[pathlib.Path], dict[str, Any]]:
    def write(root: pathlib.Path) -> dict[str, Any]:
        _walks(root, "other", GOOD)
        (_walks(root) / "data" / "metadata.json").write_text(content)
        return _minari(root)

    return write


for _name, _content in {
    "empty": "",
    "cut": '{"total_ep',
    "list": "[]",
    "wrong": '{"total_episodes": "six"}',
}.items():
    _add(
        f"{_name}_metadata",
        _damaged_metadata(_content),
        reason="corrupt_file",
        words=("metadata.json",),
        item="walk/expert-v0",
    )


def _cut_tar(root: pathlib.Path) -> dict[str, Any]:
    raw_inputs.write_webdataset(root / "0.tar", _samples(GOOD))
    _cut(raw_inputs.write_webdataset(root / "1.tar", _samples(1)), 0.3)
    return _pairs(root)


def _no_tar(root: pathlib.Path) -> dict[str, Any]:
    raw_inputs.write_webdataset(root / "0.tar", _samples(GOOD))
    (root / "1.tar").write_bytes(b"<html>404</html>" * 100)
    return _pairs(root)


_add("truncated_tar", _cut_tar, reason="corrupt_file", item="1.tar/000000")
_add("no_tar", _no_tar, reason="corrupt_file", item="1.tar")


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


_add(
    "truncated_png",
    _replaced_image(lambda image: image[: len(image) // 2]),
    reason="corrupt_image",
    item="0.tar/000002",
)
_add(
    "flipped_png",
    _replaced_image(lambda image: _flipped(image, len(image) // 2)),
    reason="corrupt_image",
    item="0.tar/000002",
)
_add(
    "no_png",
    _replaced_image(lambda _: b"<html>404</html>"),
    reason="corrupt_image",
    item="0.tar/000002",
)


def _lines(root: pathlib.Path) -> bytes:
    path = raw_inputs.write_jsonl(root.with_suffix(".jsonl"), raw_inputs.texts(0, 40))
    return path.read_bytes()


_COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.compress,
}


def _compressed(
    suffix: str, damage: Callable[[bytes], bytes]
) -> Callable[[pathlib.Path], dict[str, Any]]:
    compress = _COMPRESSORS[suffix]
    return _beside_good(
        f"b.jsonl.{suffix}", lambda root: damage(compress(_lines(root)))
    )


for _suffix in _COMPRESSORS:
    _add(
        f"truncated_{_suffix}",
        _compressed(_suffix, lambda data: data[:12]),
        reason="corrupt_file",
        words=("ends before its end mark",),
        item=f"b.jsonl.{_suffix}",
    )
    _add(
        f"flipped_{_suffix}",
        _compressed(_suffix, lambda data: _flipped(data, 2)),
        reason="corrupt_file",
        item=f"b.jsonl.{_suffix}",
    )
    _add(
        f"empty_{_suffix}",
        _compressed(_suffix, lambda _: b""),
        reason="corrupt_file",
        item=f"b.jsonl.{_suffix}",
    )


def _cut_parquet(root: pathlib.Path) -> dict[str, Any]:
    raw_inputs.write_jsonl(root / "a.jsonl", raw_inputs.texts(0, GOOD))
    table = pa.table({"text": raw_inputs.texts(0, 50)})
    pq.write_table(table, root / "b.parquet")
    _cut(root / "b.parquet")
    return _text(root)


_add("truncated_parquet", _cut_parquet, reason="corrupt_file", item="b.parquet")
