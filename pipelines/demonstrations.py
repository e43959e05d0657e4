"""`demonstrations.tfrecord`: a task's best episodes, for the policy's prompt."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gato.pipelines.assemble import FragmentCache, ShardLayout, episode_provenance
from gato.pipelines.fragment import Run, Slice
from gato.schemas import files
from gato.schemas.errors import GatoError
from gato.schemas.record import encode_row
from gato.schemas.tfrecord import frame
from gato.tokenizers.rows import RowBuilder, Segment


def write_demonstrations(
    path: str, layout: ShardLayout, chosen: Sequence[tuple[str, int]]
) -> None:
    """Writes, unprompted, the first timesteps that fit L of each chosen episode.

    Args:
        path: The TFRecord file.
        layout: What rows look like.
        chosen: (fragment path, row of its footer), in the order of the file.
    """
    cache = FragmentCache(layout.dtype)
    builder = RowBuilder(
        sequence_length=layout.sequence_length,
        dtype=layout.dtype,
        loss=layout.loss,
        control=True,
    )
    with files.open_atomic(path) as file:
        for fragment, row in chosen:
            reader = cache.reader(fragment)
            footer = reader.footer
            ends = np.array(footer.cumulative_slots(row))
            count = int(np.searchsorted(ends, layout.sequence_length, "right")) - 1
            if count < 1:
                raise GatoError(f"{fragment}: episode {row} has no timestep that fits.")
            piece = reader.read([Run(row, 0, count)])[0]
            provenance = episode_provenance(layout, footer, row, 0, count, prompt=None)
            segment = Segment(
                **{f.name: getattr(piece, f.name) for f in dataclasses.fields(Slice)},
                provenance=provenance,
            )
            file.write(frame(encode_row(builder.build([[segment]])[0][0])))
