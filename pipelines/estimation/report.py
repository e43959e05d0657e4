"""What `gato-plan` prints: a table that fits 80 columns and remarks, or JSON."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import rich.box
import rich.console
import rich.table

from gato.pipelines.estimation import costs
from gato.pipelines.estimation.figures import DatasetFigures
from gato.pipelines.report import short_number

# The day the default prices were noted; nothing reads the list.
PRICES_NOTED = "2026-11-22"
_LEAST = 0.01
_BYTE_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outlook:
    """Everything the command has found.

    Attributes:
        config: The config's path.
        figures: Of each data set.
        mixture: Renormalised weights.
        steps: Training steps.
        batch_size: Rows of a step.
        rates: Prices.
        decoding: What decoding takes.
        rows_per_second: Rows an accelerator takes.
        cores_per_accelerator: Cores beside it.
    """

    config: str
    figures: Sequence[DatasetFigures]
    mixture: dict[str, float]
    steps: int
    batch_size: int
    rates: costs.Rates
    decoding: costs.Decoding
    rows_per_second: float
    cores_per_accelerator: float

    @property
    def vcpu_hours(self) -> float:
        """Of all data sets."""
        return sum(self.rates.vcpu_hours(f) for f in self.figures)

    def epochs(self, figures: DatasetFigures) -> float | None:
        """Returns a data set's epochs."""
        share = self.mixture.get(figures.name, 0.0)
        return costs.epochs(figures, share, self.steps, self.batch_size)


def as_json(outlook: Outlook) -> dict[str, Any]:
    """Returns all figures for machines."""
    datasets = {}
    for figures in outlook.figures:
        hours = outlook.rates.vcpu_hours(figures)
        datasets[figures.name] = dataclasses.asdict(figures) | {
            "weight": outlook.mixture.get(figures.name, 0.0),
            "epochs": outlook.epochs(figures),
            "vcpu_hours": hours,
            "dollars": outlook.rates.dollars(hours),
        }
    return {
        "config": outlook.config,
        "datasets": datasets,
        "total": {
            "rows": sum(f.rows for f in outlook.figures),
            "tokens": sum(f.num_tokens for f in outlook.figures),
            "shards": sum(sum(f.shards.values()) for f in outlook.figures),
            "shard_bytes": sum(f.shard_bytes for f in outlook.figures),
            "vcpu_hours": outlook.vcpu_hours,
            "dollars": outlook.rates.dollars(outlook.vcpu_hours),
        },
        "training": {"steps": outlook.steps, "batch_size": outlook.batch_size},
        "decoding": dataclasses.asdict(outlook.decoding)
        | {
            "rows_per_second": outlook.rows_per_second,
            "cores_per_accelerator": outlook.cores_per_accelerator,
        },
        "rates": dataclasses.asdict(outlook.rates) | {"noted": PRICES_NOTED},
    }


def print_outlook(outlook: Outlook, console: rich.console.Console) -> None:
    """Prints the figures for people.

    Args:
        outlook: What was found.
        console: Where to; at least 80 columns are used well.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("data set", overflow="fold")
    for title in ("rows", "tokens", "±", "padding", "shards", "bytes", "epochs"):
        table.add_column(title, justify="right", no_wrap=True)
    for figures in outlook.figures:
        table.add_row(*_cells(outlook, figures))
    console.print(table, highlight=False, markup=False)
    remarks = rich.table.Table.grid(padding=(0, 2, 0, 0))
    remarks.add_column(overflow="fold", max_width=max(console.width // 4, 8))
    remarks.add_column(overflow="fold")
    for figures in outlook.figures:
        remarks.add_row(figures.name, "\n".join(_remarks(outlook, figures)))
    console.print(remarks, highlight=False, markup=False)
    console.print()
    for line in _conclusions(outlook):
        console.print(line, highlight=False, markup=False)


def _cells(outlook: Outlook, figures: DatasetFigures) -> Iterator[str]:
    yield figures.name
    yield short_number(figures.rows)
    yield short_number(figures.num_tokens)
    yield _error(figures)
    yield f"{figures.padding:.1%}" if figures.rows else "-"
    yield short_number(sum(figures.shards.values()))
    yield _bytes(figures.shard_bytes)
    epochs = outlook.epochs(figures)
    yield "-" if epochs is None else _rounded(epochs)


def _error(figures: DatasetFigures) -> str:
    if figures.exact:
        return "exact"
    if figures.relative_error is None:
        return "?"
    return f"{figures.relative_error:.1%}"


def _rounded(number: float) -> str:
    """Returns three digits of a number, all of those before the point.

    >>> _rounded(0.01234), _rounded(12.34), _rounded(12345.6)
    ('0.0123', '12.3', '12,346')
    """
    return f"{number:.3g}" if number < 100 else short_number(round(number))


def _price(hours: float, rates: costs.Rates) -> str:
    time = (
        f"{_rounded(hours)} vCPU-hours" if hours >= _LEAST else "under 0.01 vCPU-hours"
    )
    dollars = rates.dollars(hours)
    return f"{time}, ${dollars:,.2f}" if dollars >= _LEAST else f"{time}, under $0.01"


def _bytes(size: float) -> str:
    """Returns a size in decimal units.

    >>> _bytes(999), _bytes(1_500_000)
    ('999 B', '1.5 MB')
    """
    for unit, suffix in _BYTE_UNITS:
        if size >= unit:
            return f"{size / unit:,.1f} {suffix}"
    return f"{size:.0f} B"


def _remarks(outlook: Outlook, figures: DatasetFigures) -> Iterator[str]:
    yield _read(figures)
    yield _accounts(figures)
    kinds = {n: t for n, t in figures.tokens.items() if t and n != "padding"}
    if kinds:
        listed = (
            f"{name.replace('_', ' ')} {short_number(t)}" for name, t in kinds.items()
        )
        yield f"tokens: {', '.join(listed)}"
    if figures.items == "episodes" and figures.rows:
        yield _prompts(figures)
    if figures.decode_ms_a_row:
        yield (
            f"images: {figures.decode_ms_a_row:.2f} ms to decode a row; a row takes"
            f" {_bytes(figures.row_bytes)}, {_bytes(figures.raw_row_bytes)} if raw"
        )
    hours = outlook.rates.vcpu_hours(figures)
    yield _price(hours, outlook.rates)
    if figures.failure is not None:
        yield f"gato-build would fail: {figures.failure}"
        yield from (f"first: {problem}" for problem in figures.problems[:1])


def _read(figures: DatasetFigures) -> str:
    count = f"{figures.sampled_items:,} {figures.items}"
    size = _bytes(figures.raw_bytes)
    if figures.exact:
        return f"everything was read: {count}, {size}"
    error = ""
    if figures.relative_error is None:
        error = "; one partition was read, so the error is not known"
    plural = "" if figures.partitions == 1 else "s"
    partitions = f"{figures.partitions:,} partition{plural}"
    return (
        f"{count} read of about {short_number(figures.accounts.get('read', 0))}, in"
        f" {partitions}: {figures.share_read:.2%} of {size}{error}"
    )


def _accounts(figures: DatasetFigures) -> str:
    accounts = figures.accounts
    parts = [f"{short_number(accounts.get('kept', 0))} kept"]
    if accounts.get("low_return"):
        parts.append(f"{short_number(accounts['low_return'])} dropped by the filter")
    if accounts.get("excluded"):
        parts.append(f"{short_number(accounts['excluded'])} excluded")
    if figures.quarantined:
        reasons = (f"{short_number(n)} {r}" for r, n in figures.quarantined.items())
        parts.append(f"quarantined: {', '.join(reasons)}")
    return ", ".join(parts)


def _prompts(figures: DatasetFigures) -> str:
    prompted = figures.prompts["tail"] + figures.prompts["uniform"]
    windows = figures.prompts["windows"]
    share = figures.prompt_tokens / max(1, figures.num_tokens)
    return (
        f"{short_number(prompted)} of {short_number(windows)} windows prompted,"
        f" {share:.1%} of the tokens"
    )


def _conclusions(outlook: Outlook) -> Iterator[str]:
    rates, figures = outlook.rates, outlook.figures
    yield (
        f"Together {short_number(sum(f.rows for f in figures))} rows,"
        f" {short_number(sum(f.num_tokens for f in figures))} tokens,"
        f" {_bytes(sum(f.shard_bytes for f in figures))}. Epochs: {outlook.steps:,}"
        f" steps of {outlook.batch_size:,} rows at the config's weights, renormalised."
    )
    hours = outlook.vcpu_hours
    yield (
        f"Dataflow: {_price(hours, rates)}. That is"
        f" the CPU time measured here, without Beam, times {rates.overhead:g}"
        f" (--overhead), at ${rates.vcpu_hour_price:g} a vCPU-hour and"
        f" ${rates.memory_gb_hour_price:g} a GB-hour with"
        f" {rates.memory_gb_per_vcpu:g} GB a vCPU. The default prices are those of"
        f" batch jobs in us-central1, noted on {PRICES_NOTED} and not since compared"
        " with the list: check yours. Disks, shuffle and network are not in it."
    )
    if any(f.decode_ms_a_row for f in figures):
        yield _decoding(outlook)
    if not all(f.exact for f in figures):
        yield (
            "± is one standard error of the tokens, over partitions and items; it does"
            " not see that a partition's first items may differ from the others, and"
            " the filter is judged on the sample. Use a larger --sample to narrow it."
        )


def _decoding(outlook: Outlook) -> str:
    decoding = outlook.decoding
    text = (
        f"Decoding images takes {_rounded(decoding.cores)} cores an accelerator at"
        f" {outlook.rows_per_second:g} rows a second; half of"
        f" {outlook.cores_per_accelerator:g} (--cores_per_accelerator) may be spent"
        " on it"
    )
    if not decoding.store_raw:
        return f"{text}: enough."
    return (
        f"{text}. Set image.encoding to raw for {', '.join(decoding.store_raw)}, which"
        " costs storage and saves the decoding."
    )
