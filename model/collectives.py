"""What a compiled step moves between devices, read from its HLO text.

A collective inside a loop runs as often as the loop does; the text says how often, or
the loop's condition compares its counter with a constant. Every branch of a conditional
is counted. A transfer that the compiler cut into pieces, to work meanwhile, is one: its
pieces share a channel. Nothing here knows how long a transfer takes.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)")
_OPCODE = re.compile(r"(?:^| )([a-z][a-z\-]*)\(")
_COLLECTIVE = re.compile(rf" ({'|'.join(KINDS)})(-start)?\(([^)]*)\)")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,<=]*)\]")
_CALLED = re.compile(
    r"\b(body|condition|calls|to_apply|true_computation|false_computation"
    r"|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONSTANT = re.compile(r"[su]\d+\[\]\S* constant\((\d+)\)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective of the compiled step.

    Attributes:
        kind: One of `KINDS`.
        bytes: Of one device's part, the larger of what goes in and what comes out.
        runs: How often a step does it.
    """

    kind: str
    bytes: int
    runs: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traffic:
    """The collectives of a compiled step.

    Attributes:
        collectives: Each once.
        unknown_loops: Loops of a length that the text does not tell; what stands in
            them is counted as if they ran once.
    """

    collectives: tuple[Collective, ...]
    unknown_loops: int

    def by_kind(self) -> dict[str, dict[str, int]]:
        """Returns instructions, runs a step and bytes a step and device, by kind."""
        sums: dict[str, dict[str, int]] = {}
        for one in self.collectives:
            into = sums.setdefault(one.kind, {"instructions": 0, "runs": 0, "bytes": 0})
            into["instructions"] += 1
            into["runs"] += one.runs
            into["bytes"] += one.runs * one.bytes
        return {kind: sums[kind] for kind in KINDS if kind in sums}


def num_bytes(shape: str) -> int:
    """Returns the bytes of an array or tuple as HLO writes its shape.

    >>> num_bytes("(bf16[1,128]{1,0:T(4,128)(2,1)}, pred[3]{0})")
    259
    """
    total = 0
    for kind, bits, sizes in _ARRAY.findall(shape):
        count = math.prod(int(n.lstrip("<=")) for n in sizes.split(",") if n)
        total += -(-count * (8 if kind == "pred" else int(bits)) // 8)
    return total


def _computations(text: str) -> Iterator[tuple[str, bool, list[str]]]:
    """Yields name, whether it is the entry, and lines of each; callees come first."""
    name, is_entry, lines = "", False, []
    for line in text.splitlines():
        if not line.startswith(" ") and (header := _HEADER.match(line)):
            name, is_entry, lines = header[2], bool(header[1]), []
        elif line.startswith("}") and name:
            yield name, is_entry, lines
            name = ""
        elif name:
            lines.append(line)


def _trips(line: str, condition: list[str]) -> int | None:
    """Returns how often a loop's body runs, None where that is not told."""
    if known := _TRIPS.search(line):
        return int(known[1])
    limits = {found[1] for one in condition if (found := _CONSTANT.search(one))}
    counted_up = any("direction=LT" in one for one in condition)
    return int(limits.pop()) if len(limits) == 1 and counted_up else None


def _called(line: str) -> list[tuple[str, str]]:
    """Returns role and name of each computation that an instruction names."""
    return [
        (role, name.strip().lstrip("%"))
        for role, names in _CALLED.findall(line)
        for name in names.strip("{}").split(",")
    ]


def _moved(is_start: bool, result: str, operands: int) -> int:
    came_out = num_bytes(result)
    if is_start and result.startswith("("):
        # The result of a start holds what went in beside what comes out.
        came_out -= operands
    return max(operands, came_out)


def read_traffic(text: str) -> Traffic:
    """Returns the collectives of a module.

    Args:
        text: HLO after optimization, as `jax.stages.Compiled.as_text` gives it.
    """
    found = list(_computations(text))
    lines_of = {name: lines for name, _, lines in found}
    runs: collections.Counter[str] = collections.Counter()
    unknown_loops = 0
    transfers: dict[tuple[str, str], Collective] = {}
    sizes: dict[str, int] = {}
    for lines in lines_of.values():
        for match in filter(None, map(_INSTRUCTION.match, lines)):
            opcode = _OPCODE.search(match[2])
            sizes[match[1]] = num_bytes(match[2][: opcode.start() if opcode else None])
    for name, is_entry, lines in reversed(found):
        times = runs[name] = runs[name] or int(is_entry)
        if not times:
            continue
        for line in lines:
            called = _called(line)
            trips = 1
            if condition := dict(called).get("condition"):
                told = _trips(line, lines_of.get(condition, []))
                unknown_loops += told is None
                trips = told or 1
            for role, callee in called:
                runs[callee] += times * (trips if role == "body" else 1)
            if collective := _COLLECTIVE.search(line):
                kind, start, given = collective.groups()
                if "all-reduce-scatter" in name:
                    # Whose result is cut at once: each device keeps a part.
                    kind = "reduce-scatter"
                inside = re.findall(r"%([\w.\-]+)", given)
                result = line[: collective.start()].partition(" = ")[2]
                moved = _moved(bool(start), result, sum(map(sizes.__getitem__, inside)))
                channel = _CHANNEL.search(line)
                key = (kind, channel[1] if channel else line)
                before = transfers.get(key)
                transfers[key] = Collective(
                    kind=kind,
                    bytes=max(moved, before.bytes if before else 0),
                    runs=max(times, before.runs if before else 0),
                )
    return Traffic(collectives=tuple(transfers.values()), unknown_loops=unknown_loops)
