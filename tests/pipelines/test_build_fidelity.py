"""A build of every format equals the independent re-tokenization of its raw inputs.

`usual` has each format with the defaults, in rows of 256; `corners` has the options,
and data that must be quarantined.
"""

import collections
import dataclasses
import pathlib
from typing import Any

import image_sets
import numpy as np
import pytest
import raw_inputs
import retokenizer
from gymnasium import spaces

from gato.pipelines import build

pytestmark = pytest.mark.slow


def build_and_check(
    config: pathlib.Path, output: pathlib.Path, limit: int | None = None
) -> retokenizer.Report:
    flags = [] if limit is None else ["--limit", str(limit)]
    assert build.main(["--config", str(config), "--output", str(output), *flags]) == 0
    return retokenizer.check_build(config, output, limit)


def write_control(root: pathlib.Path) -> list[dict[str, Any]]:
    """Two agents on one task, a lone episode, grids, and images with negative returns.

    Of the expert's walks one has a NaN (quarantined) and one a NaN in its last
    observation, which is no timestep's.
    """
    walks = raw_inputs.random_walks(0, 30)
    expert = raw_inputs.write_minari(root, "motion/walk/expert-v0", walks)
    raw_inputs.overwrite_minari(expert, 3, "observations", (0, 1), np.nan)
    raw_inputs.overwrite_minari(expert, 4, "observations", (-1, 1), np.nan)
    noisy = raw_inputs.random_walks(1, 20, returns=(-5.0, 9.0))
    raw_inputs.write_minari(root, "motion/walk/noisy-v0", noisy, data_format="arrow")
    lone = raw_inputs.random_walks(2, 1, steps=(200, 200), action_range=(-2.0, 2.0))
    raw_inputs.write_minari(root, "motion/hop/expert-v0", lone, env_id="Hop-v1")
    small = raw_inputs.grids(3, 40, size=5, mission_words=(1, 60))
    raw_inputs.write_minari(root, "grids/small/bot-v0", small, data_format="arrow")
    large = raw_inputs.grids(4, 10)
    raw_inputs.write_minari(root, "grids/large/bot-v0", large)
    pixels = raw_inputs.pixels(5, 60, steps=(10, 40))
    raw_inputs.write_minari(root, "toy/pixels/human-v0", pixels)
    many = raw_inputs.random_walks(10, 300, steps=(1, 60))
    raw_inputs.write_minari(root, "toy/many/any-v0", many)
    return [
        {
            "name": "many",
            "format": "minari",
            "paths": ["raw/toy/many/any-v0"],
            "filter": {"by": "none"},
        },
        {
            "name": "walk",
            "format": "minari",
            "paths": ["raw/motion/*/*"],
            "weight": 2.5,
            "num_shards": 3,
        },
        {
            "name": "grid",
            "format": "minari",
            "paths": ["raw/grids/*/*"],
            "filter": {"by": "success"},
        },
        {
            "name": "pixels",
            "format": "minari",
            "paths": ["raw/toy/pixels/*"],
            "agent": "somebody",
        },
    ]


def write_documents(root: pathlib.Path) -> list[dict[str, Any]]:
    """Captioned images, one of them twice, and texts of which one is cut."""
    samples = raw_inputs.captioned_images(6, 40, captions={5: 2, 7: 3})
    raw_inputs.write_webdataset(root / "pairs" / "0.tar", samples)
    others = raw_inputs.captioned_images(7, 7)
    raw_inputs.write_webdataset(root / "pairs" / "1.tar", others, as_json=True)
    generator = np.random.default_rng(8)
    documents = [*raw_inputs.texts(9, 40), raw_inputs.sentence(generator, 700)]
    raw_inputs.write_jsonl(root / "text" / "a.jsonl", documents)
    raw_inputs.write_jsonl(root / "text" / "b.jsonl", [documents[0], "one more"])
    image_sets.write_coco(root / "coco", num_images=12, captions=5)
    image_sets.write_vqa(root / "vqa", num_images=12, questions=4, seed=1)
    return [
        {"name": "coco", "format": "coco", "paths": ["raw/coco/*.json"]},
        {"name": "vqa", "format": "vqa", "paths": ["raw/vqa/*questions.json"]},
        {"name": "pairs", "format": "webdataset", "paths": ["raw/pairs/*.tar"]},
        {"name": "text", "format": "text", "paths": ["raw/text/*.jsonl"]},
    ]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> retokenizer.Report:
    root = tmp_path_factory.mktemp("usual")
    config = raw_inputs.write_config(
        root / "build.yaml",
        write_control(root / "raw") + write_documents(root / "raw"),
        seed=11,
        sequence_length=256,
        validation_fraction=0.2,
        max_quarantine_fraction=0.1,
        prompts={"max_tokens": 128},
    )
    return build_and_check(config, root / "out")


def test_equals_the_independent_tokenization(usual: retokenizer.Report) -> None:
    names = {"many", "walk", "grid", "pixels", "pairs", "text", "coco", "vqa"}
    assert set(usual.datasets) == names
    for found in usual.datasets.values():
        assert found.rows["train"] > 0
        assert found.rows["validation"] > 0
    # The options of the raw data were met, so that equality says something.
    for name in ("pairs", "coco", "vqa"):
        assert usual.datasets[name].pairs[5] > 0
    assert usual.datasets["text"].segments > usual.datasets["text"].accounts["read"]
    assert usual.datasets["pixels"].images > 100


def test_every_account_was_met(usual: retokenizer.Report) -> None:
    walk = usual.datasets["walk"].accounts
    assert walk["read"] == 51
    assert walk["quarantined"] == {"nonfinite": 1}
    assert walk["low_return"] > 0
    assert usual.datasets["grid"].accounts["low_return"] > 0
    pixels = usual.datasets["pixels"].accounts
    assert 0 < pixels["low_return"] < pixels["read"]
    assert usual.datasets["many"].accounts["kept"] == 300


def test_prompts_are_as_frequent_as_configured(usual: retokenizer.Report) -> None:
    total: collections.Counter = collections.Counter()
    for found in usual.datasets.values():
        total.update(found.prompts)
    fates = ("tail", "uniform", "no_provider", "no_fit", "no_room")
    assert all(total[fate] > 0 for fate in fates), total
    drawn = sum(total[fate] for fate in fates)
    # Four standard deviations of a binomial count.
    windows, prompted = total["windows"], total["prompted"]
    assert abs(drawn - windows / 4) < 4 * np.sqrt(windows * 3 / 16), total
    assert abs(total["tail"] - prompted / 2) < 2 * np.sqrt(prompted), total


def write_corner_control(root: pathlib.Path) -> list[dict[str, Any]]:
    """Scales and clips of actions, kinds that override, and unusable episodes."""
    wild = raw_inputs.random_walks(20, 12, steps=(1, 9), action_range=(-1.05, 1.0))
    wild.episodes[0].actions[0, 0] = -19.8
    wild = dataclasses.replace(wild, action_space=spaces.Box(-1.0, 1.0, (2,)))
    raw_inputs.write_minari(root, "wild/wild/any-v0", wild)
    free = raw_inputs.random_walks(21, 12, action_range=(-0.5, 4.0), dtype=np.float32)
    free = dataclasses.replace(free, action_space=spaces.Box(-np.inf, np.inf, (2,)))
    raw_inputs.write_minari(root, "free/free/any-v0", free, data_format="arrow")
    wide = raw_inputs.random_walks(22, 4, steps=(1, 3), dimensions=600)
    raw_inputs.write_minari(root, "wide/wide/any-v0", wide)
    square = raw_inputs.pixels(23, 6, steps=(1, 4), height=16, width=16)
    raw_inputs.write_minari(root, "square/square/any-v0", square)
    photo = raw_inputs.pixels(24, 6, steps=(1, 30), height=33, width=17)
    raw_inputs.write_minari(root, "photo/photo/any-v0", photo)
    for name, size, seed in (("a", 5, 25), ("b", 6, 26)):
        mission = (1, 2) if name == "a" else (3, 4)
        grid = raw_inputs.grids(seed, 8, size=size, mission_words=mission)
        if name == "a":
            grid.episodes[2].observations["mission"] = ["x y " * 480] * 20
            grid.episodes[2].observations["direction"] = np.zeros(20, int)
            grid.episodes[2].observations["image"] = np.zeros((20, 5, 5, 3), np.uint8)
            broken = dataclasses.replace(
                grid.episodes[2],
                actions=np.zeros(19, int),
                rewards=np.ones(19),
                infos={"success": np.ones(20, bool)},
            )
            grid.episodes[2] = broken
            grid.episodes[5].actions[:] = 1024
        raw_inputs.write_minari(root, f"mixed/one/{name}-v0", grid, env_id="Mixed-v0")
    raw_inputs.write_minari(root, "mixed/two/a-v0", raw_inputs.grids(27, 5))
    infinite = raw_inputs.random_walks(28, 3)
    raw_inputs.write_minari(root, "mixed/three/a-v0", infinite)
    minari = {"format": "minari", "weight": 0.5}
    return [
        minari
        | {
            "name": "clipped",
            "paths": ["raw/wild/*/*"],
            "actions": {"clip": True},
            "image": {"encoding": "raw"},
        },
        minari | {"name": "unclipped", "paths": ["raw/wild/*/*"]},
        minari
        | {
            "name": "scaled",
            "paths": ["raw/free/*/*"],
            "actions": {"scale": [[-0.5, -1.0], [4.0, 4.0]]},
            "task": "a task",
        },
        minari
        | {
            "name": "bounded",
            "paths": ["raw/free/*/*"],
            "actions": {"scale": "none", "clip": True},
        },
        minari | {"name": "wide", "paths": ["raw/wide/*/*"]},
        minari
        | {
            "name": "square",
            "paths": ["raw/square/*/*"],
            "observations": {"kinds": {"camera": "discrete"}},
        },
        minari
        | {
            "name": "photo",
            "paths": ["raw/photo/*/*"],
            "observations": {"exclude": ["arm*"]},
            "filter": {"by": "none"},
            "image": {"encoding": "raw"},
        },
        minari
        | {
            "name": "photo-jpeg",
            "paths": ["raw/photo/*/*"],
            "observations": {"include": ["camera", "arm/*"]},
            "image": {"encoding": "jpeg"},
        },
        minari
        | {
            "name": "mixed",
            "paths": ["raw/mixed/*/*"],
            "tasks": {"exclude": ["mixed/t?o"]},
            "filter": {"by": "success"},
        },
    ]


def write_corner_documents(root: pathlib.Path) -> list[dict[str, Any]]:
    """Grey, 16 bit and JPEG images, a caption that is not UTF-8, a file with a BOM."""
    generator = np.random.default_rng(30)
    grey = generator.integers(0, 256, (32, 48)).astype(np.uint8)
    deep = generator.integers(0, 65536, (20, 20, 3)).astype(np.uint16)
    rgb = generator.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    images = {
        "grey": (raw_inputs.encode_image(grey), "png"),
        "deep": (raw_inputs.encode_image(deep), "png"),
        "jpeg": (raw_inputs.encode_image(rgb, ".jpg"), "jpg"),
        "odd": (raw_inputs.encode_image(rgb[:33, :17]), "png"),
    }
    samples = [
        raw_inputs.Captioned(
            key=key, image=image, caption=f" a {key} one ", extension=extension
        )
        for key, (image, extension) in images.items()
    ]
    raw_inputs.write_webdataset(root / "odd" / "x.tar", samples)
    (root / "files").mkdir(parents=True)
    (root / "files" / "bom.txt").write_bytes(b"\xef\xbb\xbfwith a mark\r\n\r\nand more")
    (root / "files" / "latin.txt").write_bytes("Zürich".encode("latin-1"))
    (root / "files" / "long.txt").write_text("all work and no play\n" * 700)
    image_sets.write_vqa(root / "ok-vqa", num_images=4, is_ok_vqa=True)
    (root / "ok-vqa" / "images" / image_sets.image_name(73)).unlink()
    pairs = {"format": "webdataset", "paths": ["raw/odd/*.tar"]}
    return [
        {"name": "ok-vqa", "format": "vqa", "paths": ["raw/ok-vqa/*questions.json"]},
        pairs | {"name": "kept-images", "image": {"encoding": "keep"}},
        pairs | {"name": "raw-images", "image": {"encoding": "raw"}},
        {"name": "files", "format": "text", "paths": ["raw/files/*.txt"]},
    ]


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> retokenizer.Report:
    root = tmp_path_factory.mktemp("corners")
    datasets = write_corner_control(root / "raw")
    config = raw_inputs.write_config(
        root / "build.yaml",
        datasets + write_corner_documents(root / "raw"),
        seed=2**64 - 1,
        validation_fraction=0.0,
        max_quarantine_fraction=1.0,
        prompts={"fraction": 1.0, "tail_fraction": 0.0},
        loss={"text_observations": False, "questions": False, "prompts": False},
    )
    return build_and_check(config, root / "out")


def test_options_equal_the_independent_tokenization(
    corners: retokenizer.Report,
) -> None:
    found = corners.datasets
    assert found["wide"].clamped > 0
    assert found["wide"].prompts["no_room"] == found["wide"].prompts["windows"]
    assert found["clipped"].accounts["quarantined"] == {}
    assert found["unclipped"].accounts["quarantined"]["action_out_of_range"] > 0
    mixed = found["mixed"].accounts
    assert mixed["excluded"] == 5
    assert mixed["quarantined"] == {
        "too_long": 1,
        "discrete_out_of_range": 1,
        "spec_mismatch": 8,
        "missing_success": 3,
    }
    assert found["files"].accounts["quarantined"] == {"not_utf8": 1}
    assert found["ok-vqa"].accounts["quarantined"] == {"missing_image": 2}
    assert 0 < found["ok-vqa"].targets < found["ok-vqa"].tokens["text"]
    assert found["photo"].prompts["tail"] == 0
    assert found["photo"].prompts["uniform"] > 0


def test_limit_takes_the_first_in_collection_order(tmp_path: pathlib.Path) -> None:
    for name, seed in (("b", 1), ("a", 2)):
        walks = raw_inputs.random_walks(seed, 12, steps=(1, 5))
        raw_inputs.write_minari(tmp_path / "raw", f"toy/walk/{name}-v0", walks)
    raw_inputs.write_jsonl(tmp_path / "raw" / "a.jsonl", raw_inputs.texts(3, 20))
    datasets = [
        {"name": "walk", "format": "minari", "paths": ["raw/toy/walk/*"]},
        {"name": "text", "format": "text", "paths": ["raw/a.jsonl"]},
    ]
    config = raw_inputs.write_config(tmp_path / "build.yaml", datasets)
    report = build_and_check(config, tmp_path / "out", limit=15)
    assert [d.accounts["read"] for d in report.datasets.values()] == [15, 15]
