"""The formats of raw data: one line each.

`gato.pipelines.sources.<name>` reads a format; what a config must know of it stands
here, so that a config is checked before any reader is loaded.
"""

import dataclasses
from collections.abc import Set


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """What a config may say of a data set of one format.

    Attributes:
        documents: Whether it holds documents, and not episodes.
        pages: Whether they may be interleaved pages. Their ids end in numbers, so that
            `#k` after one is a piece's.
        options: Keys of a data set that are the format's own.
    """

    documents: bool = False
    pages: bool = False
    options: Set[str] = frozenset()


FORMATS: dict[str, Format] = {
    "captions_tsv": Format(documents=True, options={"images"}),
    "coco": Format(documents=True, options={"images"}),
    "d4rl": Format(),
    "envlogger": Format(),
    "jat": Format(),
    "lerobot": Format(),
    "minari": Format(),
    "mmc4": Format(documents=True, pages=True, options={"images"}),
    "obelics": Format(documents=True, pages=True, options={"images"}),
    "parquet": Format(),  # or documents, if that is what its files hold
    "parquet_documents": Format(documents=True, pages=True),
    "procgen": Format(options={"split"}),
    "rlds": Format(options={"split"}),
    "rlu_atari": Format(),
    "rlu_dm_control": Format(),
    "rlu_dmlab": Format(),
    "robomimic": Format(options={"split"}),
    "text": Format(documents=True, options={"text_key", "document"}),
    "vd4rl": Format(),
    "vqa": Format(documents=True, options={"annotations", "images"}),
    "webdataset": Format(documents=True, options={"text_key"}),
}
