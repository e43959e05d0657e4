"""gato-verify against builds made by hand, whole and spoilt in one place each."""

import dataclasses
import json
import pathlib
import re
import shutil
from typing import Any

import handmade
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gato.pipelines import verify
from gato.schemas.record import Row, decode_example, encode_example, encode_row
from gato.schemas.tfrecord import frame

SHARD = "train-00000-of-00002.tfrecord"


@pytest.fixture
def build(tmp_path: pathlib.Path) -> pathlib.Path:
    return handmade.write_build(tmp_path / "out")


def problems_of(
    capsys: pytest.CaptureFixture[str], *arguments: str | pathlib.Path
) -> list[str]:
    """Runs the command on what must not verify and returns its lines."""
    capsys.readouterr()
    assert verify.main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert "verified: every byte" not in captured.out
    return (captured.out + captured.err).splitlines()


def found(lines: list[str], pattern: str) -> bool:
    return any(re.search(pattern, line) for line in lines)


def toy(tmp_path: pathlib.Path, **options: Any) -> pathlib.Path:
    shards = options.pop("shards", None) or handmade.control_rows()
    return handmade.write_dataset(tmp_path / "toy", shards, **options)


def edit(path: pathlib.Path, at: int, change: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= change
    path.write_bytes(data)


def test_whole_build_verifies(
    build: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main([str(build)]) == 0
    out = capsys.readouterr().out
    assert "3 data sets, 7 shards, 10 rows" in out
    assert verify.main([str(build / "toy")]) == 0
    assert verify.main([f"{build}/pairs/"]) == 0


def test_flipped_byte_is_found_with_its_record_and_byte(build, capsys) -> None:
    path = build / "toy" / SHARD
    second = int(np.frombuffer((build / "toy" / f"{SHARD}.idx").read_bytes(), "<u8")[1])
    edit(path, second + 100)
    lines = problems_of(capsys, build)
    assert found(lines, rf"{SHARD}: sha256 in the manifest")
    assert found(lines, rf"{SHARD} record 1 at byte {second}: the checksum .* data")
    # The row is lost, so its counts would all differ: one line says so instead.
    assert not found(lines, "targets is")
    assert found(lines, "1 rows could not be used")


def test_flipped_byte_of_an_index_is_found(build, capsys) -> None:
    edit(build / "toy" / f"{SHARD}.idx", 8)
    lines = problems_of(capsys, build)
    assert found(lines, rf"{SHARD}.idx: sha256 in the manifest \(idx_sha256\)")
    assert found(lines, rf"{SHARD} record 0 at byte 0: the record says it holds")


def test_index_of_another_length_is_found(build, capsys) -> None:
    path = build / "toy" / f"{SHARD}.idx"
    path.write_bytes(path.read_bytes()[:-8])
    assert found(problems_of(capsys, build), r"\.idx: its last offset is the shard's")
    path.write_bytes(b"abc")
    assert found(problems_of(capsys, build), r"\.idx: an index holds a whole number")


def test_truncated_shard_is_found(build, capsys) -> None:
    path = build / "toy" / SHARD
    path.write_bytes(path.read_bytes()[:-7])
    lines = problems_of(capsys, build)
    assert found(lines, rf"{SHARD}: the manifest says \d+ bytes, it has \d+")
    assert found(lines, rf"{SHARD} at byte \d+: .*truncated|{SHARD}: at byte .*trunc")


@pytest.mark.parametrize("suffix", ["", ".idx", ".json"])
def test_missing_file_is_found(build, capsys, suffix: str) -> None:
    (build / "toy" / f"{SHARD}{suffix}").unlink()
    assert found(problems_of(capsys, build), re.escape(f"{SHARD}{suffix}: it is missi"))


def test_extra_shard_is_found(build, capsys) -> None:
    extra = "train-00002-of-00003.tfrecord"
    shutil.copy(build / "toy" / SHARD, build / "toy" / extra)
    assert found(problems_of(capsys, build), f"{extra}: the manifest does not list it")


def test_summary_that_disagrees_is_found(build, capsys) -> None:
    path = build / "toy" / f"{SHARD}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rows": 3}))
    assert found(problems_of(capsys, build), r"\.json: rows is 3, the manifest says 2")
    path.write_text("[" * 100_000)
    assert found(problems_of(capsys, build), r"\.json: not a shard's summary")


def test_shard_under_another_number_is_found(build, capsys) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["splits"]["train"]["shards"].reverse()

    shutil.rmtree(build / "toy")
    handmade.write_dataset(build / "toy", handmade.control_rows(), change=change)
    assert found(problems_of(capsys, build), "lists its shards as .* in order")


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        (("targets",), 5, "targets is 5, the shards hold"),
        (("tokens", "text"), 5, r"tokens\.text is 5, the shards hold"),
        (("prompt_tokens",), 1, "prompt_tokens is 1, the shards hold 96"),
        (("timesteps",), 31, "timesteps is 31, the shards hold 30"),
        (("tasks", handmade.TASK, "timesteps"), 1, "timesteps is 1, the shards"),
        (("tasks", handmade.TASK, "kept"), 6, "kept is 6, the shards hold 5"),
        (("prompts", "tail"), 3, r"prompts\.tail is 3, the shards hold 2"),
        (("prompts", "windows"), 9, r"prompts\.windows is 9, the shards hold 7"),
        (("rows",), 4, "rows is 4, the shards hold 5"),
        (("splits", "train", "tokens"), 4, r"splits\.train\.tokens is 4"),
        (("local_position_clamped",), 4, "local_position_clamped is 4"),
        (("episodes", "read"), 4, "read = kept"),
        (("episodes", "kept"), 4, "read = kept"),
        (("episodes", "low_return"), 0, r"low_return is 0, the tasks sum to 1"),
        (("padding_floor",), 1.5, "padding_floor is a fraction"),
        (("vocabulary", "separator"), 33_025, "vocabulary.separator must be 33024"),
        (("token_dtype",), "int32", "token_dtype must be uint16"),
        (("schema_version",), 2, "manifests of schema version 1 can be read, got 2"),
        (("config", "loss"), 7, "config.loss must be the resolved loss"),
        (("vocabulary", "sentencepiece_sha256"), "0", "tokenizer.model: .* says sha"),
    ],
)
def test_edited_manifest_is_found(tmp_path, capsys, keys, value, expected) -> None:
    def change(manifest: dict[str, Any]) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    folder = toy(tmp_path, change=change)
    assert found(problems_of(capsys, folder), expected)


def test_wrong_sha256_is_found(tmp_path, capsys) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["splits"]["train"]["shards"][0]["sha256"] = "f" * 64

    lines = problems_of(capsys, toy(tmp_path, change=change))
    assert found(lines, rf"{SHARD}: sha256 in the manifest is f+, the file has")
    assert found(lines, rf"{SHARD}.json: sha256 is '[0-9a-f]+', the manifest says 'f+'")


# One slot changed, checksums and counts made anew: only the law tells. Slots of a
# timestep: grid 0-3, mission 4-6, state 7-9, view 10-11, separator 12, aim 13-14,
# move 15; the row is two segments of four timesteps.
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loss_mask": (5, 0)}, "slot 5: text and actions are targets.*0 for text"),
        ({"loss_mask": (7, 1)}, "slot 7: text and actions .*1 for continuous obs"),
        ({"loss_mask": (12, 1)}, "slot 12: text and actions .*1 for separator"),
        ({"loss_mask": (64, 1)}, "slot 64: text .* first of its segment"),
        ({"loss_mask": (5, 2)}, "slot 5: loss_mask is 0 or 1, got 2"),
        ({"tokens": (0, 1024)}, r"slot 0: a token lies .* got 1024 .*\[0, 1024\)"),
        ({"tokens": (4, 32_000)}, "slot 4: a token lies in the id range"),
        ({"tokens": (7, 33_024)}, "slot 7: a token lies .* got 33024"),
        ({"tokens": (10, 1)}, r"slot 10: a token lies .* image \[0, 1\)"),
        ({"tokens": (12, 5)}, "slot 12: a token lies .* separator"),
        ({"tokens": (15, 7)}, "slot 15: an action of task .* space, got 7"),
        ({"kind": (3, 16)}, "slot 3: kind is 0 to 7"),
        ({"kind": (3, 11)}, "slot 3: kind has its prompt bit exactly"),
        ({"kind": (7, 3), "tokens": (7, 3)}, "slot 7: slots follow the timestep"),
        ({"local_position": (9, 8)}, "slot 9: local_position .* 8 instead of 9"),
        ({"local_position": (13, 0)}, "slot 13: local_position .* 0 instead of -1"),
        ({"segment": (5, 2)}, "slot 5: segments are 1, 2|slot 6: segments are 1, 2"),
        ({"segment": (64, 1)}, "provenance: segment 2 does not start at slot 64"),
        ({"segment": (127, 0)}, "slot 127: segment is 0 exactly in .* padding"),
    ],
)
def test_changed_slot_is_found(tmp_path, capsys, changes, expected) -> None:
    shards = handmade.control_rows()
    shards["train"][0][0] = handmade.replaced(shards["train"][0][0], **changes)
    lines = problems_of(capsys, toy(tmp_path, shards=shards))
    assert found(lines, rf"{SHARD} record 0 \(byte 0\).*")
    assert found(lines, expected)


def with_provenance(source: Row, segment: int, **changes: Any) -> Row:
    provenance = json.loads(json.dumps(source.provenance))
    provenance[segment] |= changes
    return dataclasses.replace(source, provenance=provenance)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"start": 1}, "segment 1: it starts at slot 0, and says 1"),
        ({"length": 48}, "lengths sum to|starts at slot 48, and says 64"),
        ({"dataset": "other"}, "dataset must be 'toy', got 'other'"),
        ({"task": "other"}, "task 'other' is not among the manifest's tasks"),
        ({"agent": "other"}, "agent 'other' is not among the agents"),
        ({"num_steps": 3}, "num_steps of the body .*got 3, 4"),
        ({"first_step": -1}, "first_step must be an integer of at least 0, got -1"),
        ({"num_steps": 2**40}, "num_steps must be an integer"),
        ({"return": "1"}, "return must be a finite number"),
        ({"success": 1}, "success must be true, false or null"),
    ],
)
def test_changed_provenance_is_found(tmp_path, capsys, changes, expected) -> None:
    shards = handmade.control_rows()
    shards["train"][0][0] = with_provenance(shards["train"][0][0], 0, **changes)
    lines = problems_of(capsys, toy(tmp_path, shards=shards))
    assert found(lines, expected)


def test_prompt_from_its_own_episode_is_found(tmp_path, capsys) -> None:
    shards = handmade.control_rows()
    shards["train"][1][0] = handmade.row(
        "toy", handmade.window(2, 0, 6, ("uniform", 2, 1, 2))
    )
    lines = problems_of(capsys, toy(tmp_path, shards=shards))
    assert found(
        lines, "record 0 .*an episode never prompts itself, 'toy/reach/expert-v0/2'"
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (("uniform", 4, 1, 2), "a prompt comes from the train split: .*expert-v0/2'"),
        (("uniform", 9, 1, 2), "a prompt's episode is kept in this data set"),
        (("uniform", 0, 5, 2), "a prompt lies inside its episode"),
        (("tail", 0, 3, 2), "a prompt of mode tail ends with its episode"),
    ],
)
def test_prompt_from_a_wrong_place_is_found(tmp_path, capsys, prompt, expected) -> None:
    shards = handmade.control_rows()
    window = handmade.window(2, 0, 6, prompt)
    shards["train"][1][0] = handmade.row("toy", window)
    assert found(problems_of(capsys, toy(tmp_path, shards=shards)), expected)


def test_prompt_of_too_many_slots_is_found(tmp_path, capsys) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["config"]["prompts"]["max_tokens"] = 31

    lines = problems_of(capsys, toy(tmp_path, change=change))
    assert found(lines, "a prompt has at most 31 slots .*, got 32")


def test_prompt_bit_short_of_the_prompt_is_found(tmp_path, capsys) -> None:
    shards = handmade.control_rows()
    row = shards["train"][1][0]
    shards["train"][1][0] = handmade.replaced(row, kind=(31, 6))
    lines = problems_of(capsys, toy(tmp_path, shards=shards))
    assert found(
        lines, "slot 31: kind has its prompt bit exactly .*got no prompt bit 31"
    )


def test_doubled_and_missing_timesteps_are_found(tmp_path, capsys) -> None:
    shards = handmade.control_rows()
    shards["train"][0][0] = handmade.row(
        "toy", handmade.window(0, 1, 4), handmade.window(1, 0, 3)
    )
    lines = problems_of(capsys, toy(tmp_path, shards=shards))
    assert found(lines, "timestep 0 of 'toy/reach/expert-v0/0'.* is missing")
    assert found(lines, "timestep 4 of 'toy/reach/expert-v0/0'.* stands twice")
    assert found(lines, "timestep 3 of 'toy/reach/expert-v0/1'.* is missing")


def test_episode_in_both_splits_is_found(tmp_path, capsys) -> None:
    shards = handmade.control_rows()
    rows = shards["train"][0]
    shards["validation"][0].append(rows.pop())
    lines = problems_of(capsys, toy(tmp_path, shards=shards))
    assert found(lines, "all windows of an episode are in one split: .*expert-v0/0'")


def test_prompt_slots_that_are_targets_follow_the_config(tmp_path, capsys) -> None:
    folder = toy(tmp_path, loss={"prompts": False})
    lines = problems_of(capsys, folder)
    assert found(lines, "text and actions are targets.* 1 for text of a prompt")


def test_text_observations_follow_the_config(tmp_path, capsys) -> None:
    folder = toy(tmp_path, loss={"text_observations": False})
    assert found(problems_of(capsys, folder), "text and actions .* 1 for text")


def test_questions_may_be_masked_only_by_the_config(tmp_path, capsys) -> None:
    shards = handmade.caption_rows()
    row = shards["train"][0][0]
    shards["train"][0][0] = handmade.replaced(row, loss_mask=(5, 0))
    with_questions = handmade.write_dataset(tmp_path / "a" / "pairs", shards)
    assert found(problems_of(capsys, with_questions), "slot 5: text and actions")
    loss = {"questions": False}
    without = handmade.write_dataset(tmp_path / "b" / "pairs", shards, loss=loss)
    assert verify.main([str(without)]) == 0
    # The end of an answer is a target in any case.
    shards["train"][0][0] = handmade.replaced(row, loss_mask=(6, 0))
    ended = handmade.write_dataset(tmp_path / "c" / "pairs", shards, loss=loss)
    assert found(problems_of(capsys, ended), "slot 6: text and actions")


def image_row(**changes: Any) -> dict[str, list[list[Row]]]:
    shards = handmade.caption_rows()
    shards["train"][0][0] = dataclasses.replace(shards["train"][0][0], **changes)
    return shards


def info(*rows: tuple[int, int, int, int]) -> np.ndarray:
    good = [(0, 32, 32, 1), (7, 32, 32, 1), (14, 32, 32, 1), (21, 32, 32, 1)]
    good[: len(rows)] = rows
    return np.array(good, np.int32)


PNG = handmade.png(9, 32, 32)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image_info": info((1, 32, 32, 1))}, "image 0 takes 4 consecutive image"),
        ({"image_info": info((0, 30, 32, 1))}, "multiples of 16, image 0 has 30x32"),
        ({"image_info": info((0, 0, 32, 1))}, "multiples of 16, image 0 has 0x32"),
        ({"image_info": info((0, 16, 32, 1))}, "have 14 patches, the row 16"),
        (
            {"image_info": info((0, 16, 64, 1))},
            "slot 0: image 0: image_info says 16x64",
        ),
        ({"image_info": info((0, 32, 32, 2))}, "image 0: image_info says JPEG"),
        ({"image_info": info((0, 32, 32, 0))}, "a raw image of 32x32 has 3072 bytes"),
        ({"image_info": info((0, 32, 32, 7))}, "encodings are 0"),
        ({"image_info": info()[:3]}, "image_info lists 3 images, the row holds 4"),
        ({"images": ()}, "image_info lists 4 images, the row holds 0"),
        ({"images": (PNG[:60], *[PNG] * 3)}, "image 0: the PNG does not decode"),
        ({"images": (PNG, PNG, PNG, PNG)}, "two pairs of one image"),
    ],
)
def test_wrong_image_is_found(tmp_path, capsys, changes, expected) -> None:
    folder = handmade.write_dataset(tmp_path / "pairs", image_row(**changes))
    assert found(problems_of(capsys, folder), expected)


def test_document_twice_and_missing_piece_are_found(tmp_path, capsys) -> None:
    shards = handmade.text_rows()
    row = shards["train"][0][1]
    shards["train"][0][1] = with_provenance(row, 0, documents=["b.txt/0#2"])
    one = handmade.write_dataset(tmp_path / "a" / "words", shards)
    assert found(problems_of(capsys, one), r"b\.txt/0#2.*, piece 2 stands twice or")
    shards["train"][0][1] = with_provenance(row, 1, documents=["b.txt/2"])
    two = handmade.write_dataset(tmp_path / "b" / "words", shards)
    lines = problems_of(capsys, two)
    assert found(lines, "every document stands once")
    assert found(lines, "all pieces of a document are in one split")


def test_pair_ids_may_end_like_pieces(tmp_path) -> None:
    shards = handmade.caption_rows()
    row = shards["train"][0][0]
    shards["train"][0][0] = with_provenance(row, 0, documents=["a#1", "b#2", "c#2"])
    assert verify.main([str(handmade.write_dataset(tmp_path / "pairs", shards))]) == 0


def test_quarantine_file_that_disagrees_is_found(build, capsys) -> None:
    path = build / "toy" / "quarantine.jsonl"
    lines = path.read_text().splitlines()
    path.write_text(lines[0] + "\n")
    assert found(problems_of(capsys, build), "counts 2 of reason 'nonfinite', .* has 1")
    path.write_text(lines[0] + "\nnot json\n[1]\n")
    assert found(problems_of(capsys, build), "jsonl line 2: not a quarantine row")
    path.unlink()
    assert found(problems_of(capsys, build), "quarantine.jsonl: a build writes it")


def test_demonstrations_are_checked(build, capsys) -> None:
    path = build / "toy" / "demonstrations.tfrecord"
    good = path.read_bytes()
    path.unlink()
    assert found(problems_of(capsys, build), "demonstrations.tfrecord: a data set of")
    path.write_bytes(good[:-1])
    assert found(problems_of(capsys, build), r"demonstrations\.tfrecord.* truncated")
    for window, expected in (
        (handmade.window(0, 0, 4, ("tail", 1, 4, 2)), "has no prompt"),
        (handmade.window(0, 1, 4), "starts at timestep 0"),
        (handmade.window(4, 0, 4), "is of a training episode"),
    ):
        path.write_bytes(frame(encode_row(handmade.row("toy", window))))
        assert found(problems_of(capsys, build), f"a demonstration {expected}")
    path.write_bytes(b"")
    lines = problems_of(capsys, build)
    assert found(lines, "4 best training episodes .* has 0")


def test_root_manifest_must_agree(build, capsys) -> None:
    path = build / "manifest.json"
    content = json.loads(path.read_text())
    content["datasets"]["toy"]["rows"] = 7
    del content["datasets"]["words"]
    path.write_text(json.dumps(content))
    lines = problems_of(capsys, build)
    assert found(lines, "datasets.toy.rows is 7, the manifest of toy says 5")
    assert found(lines, "words/manifest.json: the root manifest does not list")
    content["datasets"]["nothing"] = content["datasets"]["toy"]
    path.write_text(json.dumps(content))
    assert found(problems_of(capsys, build), "nothing/manifest.json: a finished build")


def test_missing_tokenizer_is_found_in_a_whole_build(build, capsys) -> None:
    (build / "tokenizer.model").unlink()
    assert found(problems_of(capsys, build), "tokenizer.model: a build copies its")
    assert verify.main([str(build / "toy")]) == 0


def test_unfinished_build_says_what_to_do(build, tmp_path, capsys) -> None:
    (build / "manifest.json").unlink()
    lines = problems_of(capsys, build)
    assert found(lines, "not finished: .* pairs, toy, words .*Run the same gato-build")
    (build / "toy" / "manifest.json").unlink()
    assert found(problems_of(capsys, build / "toy"), "not finished: there is no manif")
    assert verify.main([str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert found(problems_of(capsys, tmp_path / "empty"), "no output of gato-build")


def test_two_builds_compared(build, tmp_path, capsys) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(build, twin)
    assert verify.main([str(build), "--against", str(twin)]) == 0
    edit(twin / "toy" / SHARD, 1234)
    lines = problems_of(capsys, build, "--against", twin)
    assert found(lines, rf"{SHARD} and .*{SHARD} differ, first at byte 1234")
    (twin / "words" / "train-00000-of-00001.tfrecord").unlink()
    assert found(problems_of(capsys, build, "--against", twin), "rd is missing")
    path = twin / "toy" / "manifest.json"
    path.write_text(path.read_text().replace('"max_tokens": 64', '"max_tokens": 65'))
    lines = problems_of(capsys, build, "--against", twin)
    assert found(lines, r"differ: config\.prompts\.max_tokens is 64 and 65")
    lines = problems_of(capsys, build, "--against", twin / "toy")
    assert found(lines, "--against compares like with like")


def test_problems_are_many_but_few_are_told(tmp_path, capsys) -> None:
    shards = handmade.control_rows()
    row = handmade.replaced(shards["train"][0][0], loss_mask=(5, 0))
    shards["train"][0] = [row] * 60
    lines = problems_of(capsys, toy(tmp_path, shards=shards))
    assert sum("0 for text" in line for line in lines) == 3
    assert found(lines, r"\.\.\. and \d+ more")


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_garbage_anywhere_is_told_without_a_traceback(build, data) -> None:
    names = sorted(
        path for path in build.rglob("*") if path.is_file() and path.suffix != ".model"
    )
    path = data.draw(st.sampled_from(names))
    whole = path.read_bytes()
    if not whole:
        return
    garbage = data.draw(
        st.one_of(
            st.binary(max_size=64),
            st.integers(0, len(whole) - 1).map(lambda n: whole[:n]),
            st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1)).map(
                lambda cut: whole[: cut[0]] + cut[1] + whole[cut[0] + len(cut[1]) :]
            ),
        )
    )
    try:
        path.write_bytes(garbage)
        code = verify.main([str(build)])
    finally:
        path.write_bytes(whole)
    # Inside a message of the manifest or quarantine a change may be harmless.
    assert code == 1 or path.suffix in (".json", ".jsonl") or garbage == whole


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_garbage_in_provenance_is_told_without_a_traceback(tmp_path_factory, data):
    values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.text(max_size=3), inner, max_size=2)
        ),
        max_leaves=4,
    )
    shards = handmade.control_rows()
    row = shards["train"][0][0]
    key = data.draw(st.sampled_from([*row.provenance[0], "whole", "entry"]))
    value = data.draw(values)
    if key == "whole":
        provenance: Any = value
    elif key == "entry":
        provenance = [value, row.provenance[1]]
    else:
        provenance = [row.provenance[0] | {key: value}, row.provenance[1]]
    folder = handmade.write_dataset(
        tmp_path_factory.mktemp("garbage") / "toy", handmade.control_rows()
    )
    path = folder / SHARD
    spoilt = dataclasses.replace(row, provenance=provenance)
    path.write_bytes(frame(encode_row(spoilt)))
    assert verify.main([str(folder)]) == 1


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("prompt", '{"mode":"first"}', "prompt has mode tail or uniform"),
        ("prompt", '{"mode":"tail","episode":"a"}', "length must be an integer"),
        ("episode", '["a"]', "episode must be a text"),
        # JSON can spell half of a surrogate pair, UTF-8 cannot.
        ("episode", '"\\ud800"', "kept is 5, the shards hold 6"),
        ("return", "NaN", "return must be a finite number, got nan"),
        ("return", "1" * 400, "kept is"),
        ("return", "1e999", "return must be a finite number, got inf"),
        ("task", "[" * 60_000, "record 0 .*recursion|record 0 .*JSON"),
    ],
)
def test_provenance_no_json_writer_would_write(
    tmp_path, capsys, key, value, expected
) -> None:
    folder = toy(tmp_path)
    data = encode_row(with_provenance(handmade.control_rows()["train"][0][0], 1))
    spoilt = spoil_json(data, key, value)
    rest = encode_row(handmade.control_rows()["train"][0][1])
    framed = [frame(spoilt), frame(rest)]
    (folder / SHARD).write_bytes(b"".join(framed))
    offsets = np.array([0, len(framed[0]), len(framed[0]) + len(framed[1])], "<u8")
    (folder / f"{SHARD}.idx").write_bytes(offsets.tobytes())
    lines = problems_of(capsys, folder)
    if expected == "kept is":
        assert not found(lines, "provenance:")
    else:
        assert found(lines, expected)


def spoil_json(data: bytes, key: str, value: str) -> bytes:
    """Puts another JSON value behind a key of the first segment's provenance."""
    features = decode_example(data)
    text = bytes(features["provenance"][0]).decode()
    start = text.index(f'"{key}":') + len(key) + 3
    _, stop = json.JSONDecoder().raw_decode(text, start)
    lists = {
        name: [bytes(each) for each in values] for name, values in features.items()
    }
    lists["provenance"] = [f"{text[:start]}{value}{text[stop:]}".encode()]
    return encode_example(lists)


def test_usage_errors_exit_with_two(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        verify.main([])
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        verify.main(["--help"])
    assert caught.value.code == 0
    assert "gato-verify out --against again" in capsys.readouterr().out
