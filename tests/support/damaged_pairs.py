"""Small image-text inputs with one thing wrong: tars, COCO captions, VQA questions.

The counterpart of `damaged_inputs` for what needs images beside the text.
"""

import io
import pathlib
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

import image_files
import image_sets
import raw_inputs
from damaged_inputs import GOOD, Case

PAIR_CASES: dict[str, Case] = {}

Write = Callable[[pathlib.Path], dict[str, Any]]


def _add(name: str, write: Write, **facts: Any) -> None:
    PAIR_CASES[name] = Case(write=write, **facts)


# Tars.


def _tars(root: pathlib.Path) -> dict[str, Any]:
    samples = raw_inputs.captioned_images(0, GOOD, sides=(30, 60))
    raw_inputs.write_webdataset(root / "0.tar", samples)
    return {"format": "webdataset", "paths": [str(root / "*.tar")]}


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> Write:
    """A second tar with these members."""

    def write(root: pathlib.Path) -> dict[str, Any]:
        with tarfile.open(root / "1.tar", "w") as tar:
            for member, data in members:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return _tars(root)

    return write


def _special(name: str, type: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = type, "/etc/passwd"
    return member, b""


def _file(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


_BOMB = image_files.png_bomb()
_SMALL = raw_inputs.captioned_images(1, 1, sides=(30, 60))[0].image

_add(
    "png_bomb_in_a_tar",
    _tar(_file("k.png", _BOMB), _file("k.txt", b"black")),
    reason="image_too_large",
    words=("50000 x 50000",),
    item="1.tar/k",
)
for _name in ("../k", "/etc/k", "a/../../k"):
    _add(
        f"member_{_name}_of_a_tar".replace("/", "_"),
        _tar(_file(f"{_name}.png", _SMALL), _file(f"{_name}.txt", b"outside")),
        reason="unsafe_path",
        words=("inside the tar", _name),
        item=f"1.tar/{_name}",
    )
for _name, _type in {
    "link": tarfile.SYMTYPE,
    "hard_link": tarfile.LNKTYPE,
    "device": tarfile.CHRTYPE,
    "pipe": tarfile.FIFOTYPE,
}.items():
    _add(
        f"{_name}_in_a_tar",
        _tar(_special("k.png", _type), _file("k.txt", b"words")),
        reason="unsupported",
        words=("'k.png'",),
        item="1.tar/k",
    )
_add("empty_tar", _tar(), reason=None, bad=0)


def _no_bytes(root: pathlib.Path) -> dict[str, Any]:
    (root / "1.tar").touch()
    return _tars(root)


_add("tar_without_bytes", _no_bytes, reason="corrupt_file", item="1.tar")


# COCO captions.

_CAPTIONS = "captions_val2014.json"


def _coco(edit: image_sets.Edit | None = None, image: bytes | None = None) -> Write:
    """Captions of which the third, or its image, is another."""

    def write(root: pathlib.Path) -> dict[str, Any]:
        image_sets.write_coco(root, num_images=GOOD + 1, captions=1, edit=edit)
        if image is not None:
            name = image_sets.image_name(image_sets.IMAGE_IDS[2])
            (root / "images" / name).write_bytes(image)
        return {"format": "coco", "paths": [str(root / "*.json")]}

    return write


def _caption(**changes: Any) -> image_sets.Edit:
    return lambda content: content["annotations"][2].update(changes)


_BAD_IMAGES: Mapping[str, tuple[bytes, str]] = {
    "bomb": (_BOMB, "image_too_large"),
    "cut": (_SMALL[: len(_SMALL) // 2], "corrupt_image"),
    "page": (b"<html>404</html>", "corrupt_image"),
    "empty": (b"", "corrupt_image"),
}
for _name, (_image, _reason) in _BAD_IMAGES.items():
    _add(
        f"{_name}_image_of_coco",
        _coco(image=_image),
        reason=_reason,
        item=f"{_CAPTIONS}/1014",
    )
_BAD_CAPTIONS: Mapping[str, tuple[dict[str, Any], str, int]] = {
    "without_image": ({"image_id": 404}, "missing_image", 1014),
    "without_caption": ({"caption": None}, "missing_field", 1014),
    "of_wrong_type": ({"caption": 3}, "wrong_dtype", 2),
    "empty": ({"caption": ""}, "empty", 1014),
    "of_a_known_id": ({"id": 1000}, "corrupt_record", 1000),
    "not_utf8": ({"caption": "\ud800"}, "not_utf8", 2),
}
for _name, (_changes, _reason, _item) in _BAD_CAPTIONS.items():
    _add(
        f"caption_{_name}",
        _coco(_caption(**_changes)),
        reason=_reason,
        item=f"{_CAPTIONS}/{_item}",
    )
_add(
    "image_outside_the_folder",
    _coco(lambda c: c["images"][2].update(file_name="../../outside.jpg")),
    reason="unsafe_path",
    words=("'../../outside.jpg'",),
    item=f"{_CAPTIONS}/1014",
)


# Questions.

_QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"


def _vqa(**edits: Any) -> Write:
    def write(root: pathlib.Path) -> dict[str, Any]:
        image_sets.write_vqa(root, num_images=GOOD + 1, questions=1, **edits)
        return {"format": "vqa", "paths": [str(root / "*questions.json")]}

    return write


def _drop_image(root: pathlib.Path) -> dict[str, Any]:
    entry = _vqa()(root)
    (root / "images" / image_sets.image_name(image_sets.IMAGE_IDS[2])).unlink()
    return entry


_add(
    "question_without_annotation",
    _vqa(edit_annotations=lambda c: c["annotations"].pop(0)),
    reason="missing_field",
    words=("must have its annotation",),
    item=f"{_QUESTIONS}/{image_sets.IMAGE_IDS[GOOD]}000",
)
_add(
    "annotation_without_question",
    _vqa(edit_questions=lambda c: c["questions"].pop(2)),
    reason="missing_field",
    words=("must have its question",),
    item=f"{_QUESTIONS}/{image_sets.IMAGE_IDS[2]}000",
)
_add(
    "question_without_image",
    _drop_image,
    reason="missing_image",
    words=("COCO_val2014_000000581929.jpg", "581929.*"),
    item=f"{_QUESTIONS}/581929000",
)


def _cut(wanted: str) -> Write:
    """A data set that is lost, beside a good one."""

    def write(root: pathlib.Path) -> dict[str, Any]:
        image_sets.write_vqa(root / "good", num_images=GOOD, questions=1)
        image_sets.write_vqa(root / "cut", num_images=1, questions=1)
        path = root / "cut" / wanted
        path.write_bytes(path.read_bytes()[:-20])
        return {"format": "vqa", "paths": [str(root / "*" / "*questions.json")]}

    return write


for _name in (_QUESTIONS, "v2_mscoco_val2014_annotations.json"):
    _add(
        f"truncated_{_name.rpartition('_')[2].removesuffix('.json')}",
        _cut(_name),
        reason="corrupt_file",
        words=(_name,),
        item=f"cut/{_QUESTIONS}",
    )
