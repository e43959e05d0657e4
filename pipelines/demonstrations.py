"""`demonstrations.tfrecord`: a task's best episodes, for the policy's prompt."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.fragment import read_footer
from gato.pipelines.fragment_data import RUN, FragmentData, is_varied
from gato.pipelines.segments import ShardLayout, episode_segment
from gato.schemas import files
from gato.schemas.errors import GatoError
from gato.schemas.record import encode_row
from gato.schemas.tfrecord import frame
from gato.tokenizers.rows import RowBuilder


def write_demonstrations(
    path: str, layout: ShardLayout, chosen: Sequence[tuple[str, int]]
) -> None:
    """Writes, unprompted, the first timesteps that fit L of each chosen episode.

    Args:
        path: The TFRecord file.
        layout: What rows look like.
        chosen: (fragment path, row of its footer), in the order of the file.
    """
    builder = RowBuilder(
        sequence_length=layout.sequence_length,
        dtype=layout.dtype,
        loss=layout.loss,
        control=True,
    )
    data = FragmentData(layout.dtype)
    runs: list[NDArray[np.void]] = [np.zeros(0, RUN)] * len(chosen)
    # A footer is read once, and not kept.
    for fragment in {fragment for fragment, _ in chosen}:
        footer = read_footer(fragment)
        for place, (path_of, row) in enumerate(chosen):
            if path_of == fragment:
                runs[place] = _first_run(footer.item(row), fragment, row, layout)
    with files.open_atomic(path) as file:
        for (fragment, _), run in zip(chosen, runs, strict=True):
            (piece,) = data.read([fragment], run)
            segment = episode_segment(run[0], piece, None, layout)
            file.write(frame(encode_row(builder.build([[segment]])[0][0])))


def _first_run(
    item: dict[str, Any], path: str, row: int, layout: ShardLayout
) -> NDArray[np.void]:
    """Returns `RUN` [1]: the first timesteps of an item that fit."""
    step_slots = np.repeat(item["run_slots"], item["run_steps"])
    ends = np.cumsum(step_slots)
    count = int(np.searchsorted(ends, layout.sequence_length, "right"))
    if count < 1:
        raise GatoError(f"{path}: episode {row} has no timestep that fits.")
    images = len(item["image_bytes"]) // len(step_slots)
    run = np.zeros(1, RUN)
    run["row"], run["offset"], run["head"] = (
        row,
        item["data_offset"],
        item["head_bytes"],
    )
    run["steps"], run["varied"] = len(step_slots), is_varied(step_slots)
    run["images"], run["item_slots"] = images, item["num_slots"]
    run["count"], run["slots"] = count, ends[count - 1]
    run["image_bytes"] = sum(item["image_bytes"][: count * images])
    return run
