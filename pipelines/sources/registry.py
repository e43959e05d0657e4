"""Which reader reads which format: one line a format."""

from gato.pipelines.sources.base import Source
from gato.pipelines.sources.canonical import CanonicalSource
from gato.pipelines.sources.captions_tsv import CaptionsTsvSource
from gato.pipelines.sources.coco import CocoSource
from gato.pipelines.sources.d4rl import D4rlSource
from gato.pipelines.sources.jat import JatSource
from gato.pipelines.sources.lerobot import LerobotSource
from gato.pipelines.sources.minari import MinariSource
from gato.pipelines.sources.mmc4 import Mmc4Source
from gato.pipelines.sources.obelics import ObelicsSource
from gato.pipelines.sources.procgen import ProcgenSource
from gato.pipelines.sources.rlds import RldsSource
from gato.pipelines.sources.rlu_atari import RluAtariSource
from gato.pipelines.sources.rlu_dm_control import RluDmControlSource
from gato.pipelines.sources.rlu_dmlab import RluDmlabSource
from gato.pipelines.sources.robomimic import RobomimicSource
from gato.pipelines.sources.text import TextSource
from gato.pipelines.sources.vd4rl import Vd4rlSource
from gato.pipelines.sources.vqa import VqaSource
from gato.pipelines.sources.webdataset import WebdatasetSource
from gato.schemas.errors import UsageError

_SOURCES: dict[str, Source] = {
    "captions_tsv": CaptionsTsvSource(),
    "coco": CocoSource(),
    "d4rl": D4rlSource(),
    "jat": JatSource(),
    "lerobot": LerobotSource(),
    "minari": MinariSource(),
    "mmc4": Mmc4Source(),
    "obelics": ObelicsSource(),
    "parquet": CanonicalSource(),
    "procgen": ProcgenSource(),
    "rlds": RldsSource(),
    "rlu_atari": RluAtariSource(),
    "rlu_dm_control": RluDmControlSource(),
    "rlu_dmlab": RluDmlabSource(),
    "robomimic": RobomimicSource(),
    "text": TextSource(),
    "vd4rl": Vd4rlSource(),
    "vqa": VqaSource(),
    "webdataset": WebdatasetSource(),
}


def source_for(format: str) -> Source:
    """Returns the reader of a format.

    Raises:
        UsageError: If there is no such reader.

    >>> source_for("minari").items
    'episodes'
    """
    if format not in _SOURCES:
        raise UsageError(
            f"a format is one of {', '.join(sorted(_SOURCES))}, got {format!r}. To add"
            " one, see docs/add_a_source.md."
        )
    return _SOURCES[format]
