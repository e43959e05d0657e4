"""One batch: what the loader fills with NumPy and the step gets as arrays on a mesh."""

from typing import Any, NamedTuple


class Batch(NamedTuple):
    """Rows and the patches of their images (shape letters: `gato.model.config`).

    Patches do not stand in their rows: an Atari row holds about 930 and a text row
    none. Those of one device's rows are pooled in slot order, as many as the fullest
    pool needs, rounded up to one of three sizes.

    Attributes:
        tokens_BL: int32; 0 in image slots and padding.
        kind_BL: uint8; `gato.schemas.record.Kind`, without the prompt's bit.
        loss_mask_BL: uint8; 1 where the slot's token is a target.
        segment_BL: uint8; 0 padding, else 1, 2, ... in order.
        local_position_BL: int16; -1 where there is none.
        dataset_B: int32; index of the row's data set.
        row_B: int32; place of the row in the global batch.
        patches_GPC: uint8 [G, P, 768]; pixels row-major, 16 x 16 x 3.
        patch_grid_GP4: int32; patch row and column, then the image's patch rows and
            columns.
        patch_source_GP2: int32; the row (as in `row_B`) and the image's place in it.
    """

    tokens_BL: Any
    kind_BL: Any
    loss_mask_BL: Any
    segment_BL: Any
    local_position_BL: Any
    dataset_B: Any
    row_B: Any
    patches_GPC: Any
    patch_grid_GP4: Any
    patch_source_GP2: Any
