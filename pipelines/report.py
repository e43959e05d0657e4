"""What `gato-build` prints at the end: a table that fits 80 columns, then remarks."""

from collections.abc import Collection, Iterable, Sequence

import rich.box
import rich.console
import rich.table

from gato.schemas.manifest import (
    QUARANTINE_NAME,
    Accounts,
    DatasetManifest,
    PromptCounts,
)

_SUFFIXES = ((10**12, "T"), (10**9, "G"), (10**6, "M"))
# Numbers up to here are printed in full.
_FULL = 10**7


def short_number(number: int) -> str:
    """Returns a count in at most nine characters.

    >>> short_number(123_456), short_number(12_345_678)
    ('123,456', '12.3 M')
    """
    if number < _FULL:
        return f"{number:,}"
    size, suffix = next(pair for pair in _SUFFIXES if number >= pair[0])
    return f"{number / size:,.1f} {suffix}"


def print_summary(
    manifests: Sequence[DatasetManifest],
    finished: Collection[str],
    console: rich.console.Console,
) -> None:
    """Prints a row a data set, and below what a row has no room for.

    Args:
        manifests: Of the data sets that stand finished.
        finished: Names of those that stood before this run.
        console: Where to.
    """
    if not manifests:
        return
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("data set", overflow="fold")
    for title in ("read", "kept", "rows", "tokens", "padding", "shards"):
        table.add_column(title, justify="right", no_wrap=True)
    remarks = rich.table.Table.grid(padding=(0, 2, 0, 0))
    remarks.add_column(overflow="fold", max_width=max(console.width // 3, 8))
    remarks.add_column(overflow="fold")
    for manifest in manifests:
        slots = manifest.rows * manifest.sequence_length
        padding = manifest.tokens.padding
        table.add_row(
            manifest.dataset,
            short_number(manifest.accounts.read),
            short_number(manifest.accounts.kept),
            short_number(manifest.rows),
            short_number(slots - padding),
            f"{padding / slots:.1%}" if slots else "-",
            short_number(sum(len(s.shards) for s in manifest.splits.values())),
        )
        lines = _remarks(manifest, manifest.dataset in finished)
        remarks.add_row(manifest.dataset, "; ".join(lines))
    console.print(table, highlight=False)
    console.print(remarks, highlight=False, markup=False)


def _remarks(manifest: DatasetManifest, finished: bool) -> Iterable[str]:
    if finished:
        yield "finished before, with the same input and config"
    yield from _accounts(manifest.dataset, manifest.accounts)
    if manifest.episodes and manifest.prompts.windows:
        yield _prompts(manifest.prompts)
    yield f"padding at best {manifest.padding_floor:.1%}"


def _accounts(name: str, accounts: Accounts) -> Iterable[str]:
    if accounts.low_return:
        yield (
            f"{accounts.low_return:,} left out by the expert filter"
            " (filter: {by: none} keeps all)"
        )
    if accounts.excluded:
        yield f"{accounts.excluded:,} excluded by tasks or max_episodes"
    if accounts.quarantined:
        reasons = ", ".join(
            f"{n:,} {reason}" for reason, n in accounts.quarantined.items()
        )
        total = sum(accounts.quarantined.values())
        yield f"{total:,} quarantined: {reasons} (see {name}/{QUARANTINE_NAME})"


def _prompts(prompts: PromptCounts) -> str:
    without = {
        "no other episode of its task": prompts.no_provider,
        "max_tokens below a timestep": prompts.no_fit,
        "no room in the row": prompts.no_room,
    }
    why = ", ".join(f"{n:,} could not: {reason}" for reason, n in without.items() if n)
    text = f"{prompts.prompted:,} of {prompts.windows:,} windows prompted"
    return f"{text} ({why})" if why else text
