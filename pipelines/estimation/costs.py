"""What the figures mean in money, epochs and processor cores: plain arithmetic."""

import dataclasses
from collections.abc import Mapping, Sequence

from gato.pipelines.estimation.figures import DatasetFigures

_HOUR = 3600
# Decoding may take this share of the cores; the rest reads, assembles and dispatches.
_DECODE_SHARE = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """What an hour costs, and how this machine compares with what is paid for.

    Attributes:
        vcpu_hour_price: Dollars of one vCPU for an hour.
        memory_gb_hour_price: Dollars of one GB of memory for an hour.
        memory_gb_per_vcpu: GB of memory that come with a vCPU.
        overhead: vCPU seconds there for a CPU second measured here without Beam.
    """

    vcpu_hour_price: float
    memory_gb_hour_price: float
    memory_gb_per_vcpu: float
    overhead: float

    def vcpu_hours(self, figures: DatasetFigures) -> float:
        """Returns the vCPU-hours to build a data set."""
        seconds = figures.tokenize_seconds + figures.assemble_seconds
        return self.overhead * seconds / _HOUR

    def dollars(self, vcpu_hours: float) -> float:
        """Returns the price of vCPU-hours with their memory.

        >>> rates = Rates(
        ...     vcpu_hour_price=0.05,
        ...     memory_gb_hour_price=0.005,
        ...     memory_gb_per_vcpu=4,
        ...     overhead=1,
        ... )
        >>> round(rates.dollars(10), 6)
        0.7
        """
        memory = self.memory_gb_per_vcpu * self.memory_gb_hour_price
        return vcpu_hours * (self.vcpu_hour_price + memory)


def shares(
    figures: Sequence[DatasetFigures], weights: Mapping[str, float]
) -> dict[str, float]:
    """Returns the weights renormalised over the data sets that have training rows."""
    present = {f.name: weights[f.name] for f in figures if f.train_rows}
    total = sum(present.values())
    return {name: weight / total for name, weight in present.items()}


def epochs(
    figures: DatasetFigures, share: float, steps: int, batch_size: int
) -> float | None:
    """Returns how often training sees each row of a data set, None without rows."""
    if not figures.train_rows:
        return None
    return share * steps * batch_size / figures.train_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
    """What decoding images takes of the cores beside an accelerator.

    Attributes:
        cores: Cores kept busy at the given rows a second.
        allowed: Cores it may take.
        store_raw: Data sets whose images are better stored raw, dearest first.
    """

    cores: float
    allowed: float
    store_raw: tuple[str, ...]


def judge_decoding(
    figures: Sequence[DatasetFigures],
    mixture: Mapping[str, float],
    rows_per_second: float,
    cores_per_accelerator: float,
) -> Decoding:
    """Decides whether images should be stored raw.

    Args:
        figures: Of every data set.
        mixture: From `shares`.
        rows_per_second: Rows that one accelerator trains on in a second.
        cores_per_accelerator: CPU cores there are for each.
    """
    busy = {
        f.name: mixture[f.name] * rows_per_second * f.decode_ms_a_row / 1000
        for f in figures
        if f.name in mixture
    }
    cores = left = sum(busy.values())
    allowed = _DECODE_SHARE * cores_per_accelerator
    store_raw = []
    for name in sorted(busy, key=lambda name: -busy[name]):
        if left <= allowed:
            break
        store_raw.append(name)
        left -= busy[name]
    return Decoding(cores=cores, allowed=allowed, store_raw=tuple(store_raw))
