"""Presets: one file a size, each with `get_config()` and what is claimed for it."""

from collections.abc import Callable

from gato.model.config import TrainConfig
from gato.model.configs import gato_1_18b, gato_79m, gato_364m, tiny

PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "tiny": tiny.get_config,
    "79m": gato_79m.get_config,
    "364m": gato_364m.get_config,
    "1.18b": gato_1_18b.get_config,
}
