"""RL Unplugged's Atari shards, as transitions or as episodes.

Two publications are told apart by their features:

- `atari` (google-deepmind/deepmind-research, rl_unplugged/atari.py, at 1ea4cc0): a
  record is a transition, `o_t` and `o_tp1` of four PNG frames each, `a_t`, `a_tp1`,
  `r_t`, `d_t`, `episode_id`. They are shuffled and bear no step number, so those of one
  episode are put in the order in which `o_tp1` and `a_tp1` are the next one's `o_t` and
  `a_t`, else the frames alone; a discount of 0 ends it. An observation is the newest of
  the four frames, whose PNG is passed on as it is.
- `atari_episodes_ordered`, `atari_checkpoints*`, as tensorflow-datasets 4.9.10 reads
  them (rl_unplugged/atari_utils.py): a record is an episode of `observations`,
  `actions` and `unclipped_rewards`, and its last step only an observation. Prefer this
  one, whose episodes are whole.

Limits of transitions: a shard is held in memory until its end, each frame once and as
PNG (about 1 KB a transition); and an episode of which a part lies in another shard is
quarantined, since no order can be told. The task is the game, the agent the run:
`<game>/run_<k>-00000-of-00100`.
"""

import dataclasses
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.pipelines.sources import base, rlu_examples, rlu_links
from gato.pipelines.sources.rlds_wire import Example
from gato.pipelines.sources.rlu_examples import (
    ShardSource,
    check_length,
    floats,
    folders,
    integers,
    strings,
)
from gato.schemas.config import Dataset
from gato.schemas.episode import Episode, Space, Unreadable
from gato.schemas.errors import QuarantineError, Reason

_STACK = 4
_SHARD = re.compile(r"-\d+-of-\d+$")


class RluAtariSource(ShardSource):
    """Episodes of RL Unplugged's Atari shards; a partition is a shard."""

    format = "rlu_atari"
    shard = "atari_episodes_ordered/Pong/run_1-*-of-00050"

    def read(
        self, partition: base.Partition, dataset: Dataset
    ) -> Iterator[Episode | Unreadable]:
        """Yields the shard's episodes in the order in which they first appear."""
        run = _SHARD.sub("", partition.path.rpartition("/")[2])
        task = dataset.task or folders(partition.path)[0] or self.format
        names = (task, dataset.agent or run)
        if _holds_episodes(partition.path):
            yield from rlu_examples.read_episodes(
                partition,
                names,
                lambda example, place: _episode(partition, names, example, place),
            )
        else:
            yield from _regrouped(partition, names)


SOURCE: base.Source = RluAtariSource()


def _holds_episodes(path: str) -> bool:
    for example in rlu_examples.read_examples(path):
        if not isinstance(example, QuarantineError):
            return "observations" in example
    return False


def _episode(
    partition: base.Partition, names: tuple[str, str], example: Example, place: int
) -> Episode:
    """Returns the episode of a record that is one."""
    actions = integers(example, "actions")
    num_steps = len(actions) - 1
    if num_steps < 1:
        raise QuarantineError(
            Reason.EMPTY,
            f"an episode must have a step with an action, got {len(actions)} steps",
        )
    frames = strings(example, "observations")
    rewards = floats(example, "unclipped_rewards")
    check_length("observations", len(frames), len(actions))
    check_length("unclipped_rewards", len(rewards), len(actions))
    return _make(
        partition,
        names,
        place,
        str(place),
        frames[:num_steps],
        actions[:num_steps],
        rewards[:num_steps],
    )


def _make(
    partition: base.Partition,
    names: tuple[str, str],
    number: int,
    name: str,
    frames: list[bytes],
    actions: NDArray[np.int64],
    rewards: NDArray[np.float32],
) -> Episode:
    return Episode(
        episode_id=f"{partition.relative_path}/{name}",
        source=partition.path,
        number=number,
        task=names[0],
        agent=names[1],
        observations={"observation": frames},
        actions={"action": actions},
        action_spaces={"action": Space()},
        rewards=rewards.astype(np.float64),
    )


# Frames of o_t and o_tp1 by number, and what stands beside them.
_TRANSITION: np.dtype[np.void] = np.dtype(
    [
        ("before", "<i4", _STACK),
        ("after", "<i4", _STACK),
        ("action", "<i8"),
        ("next_action", "<i8"),
        ("reward", "<f4"),
        ("discount", "<f4"),
    ]
)
_PACK = struct.Struct(f"<{2 * _STACK}i2q2f").pack


@dataclasses.dataclass
class _Transitions:
    """The transitions of a shard, with each of their frames once.

    Attributes:
        rows: `_TRANSITION` records of each episode, as bytes.
        frames: Number of each frame.
    """

    rows: dict[int, bytearray] = dataclasses.field(default_factory=dict)
    frames: dict[bytes, int] = dataclasses.field(default_factory=dict)

    def add(self, example: Example) -> None:
        """Adds the transition of a record.

        Raises:
            QuarantineError: What is wrong with it.
        """
        numbers = []
        for name in ("o_t", "o_tp1"):
            frames = strings(example, name)
            check_length(name, len(frames), _STACK)
            numbers += [self.frames.setdefault(f, len(self.frames)) for f in frames]
        row = _PACK(
            *numbers,
            _one(integers(example, "a_t"), "a_t"),
            _one(integers(example, "a_tp1"), "a_tp1"),
            _one(floats(example, "r_t"), "r_t"),
            _one(floats(example, "d_t"), "d_t"),
        )
        episode = int(_one(integers(example, "episode_id"), "episode_id"))
        self.rows.setdefault(episode, bytearray()).extend(row)


def _one(values: NDArray[Any], name: str) -> Any:
    check_length(name, len(values), 1)
    return values[0]


def _regrouped(
    partition: base.Partition, names: tuple[str, str]
) -> Iterator[Episode | Unreadable]:
    """Yields the verdicts on records that are lost, then the episodes of the others."""
    transitions = _Transitions()
    for place, example in enumerate(rlu_examples.read_examples(partition.path)):
        try:
            if isinstance(example, QuarantineError):
                raise example
            transitions.add(example)
        except QuarantineError as error:
            verdict = QuarantineError(error.reason, f"record {place}: {error.detail}")
            yield _lost(partition, names, None, place, verdict)
    frames = list(transitions.frames)
    transitions.frames.clear()
    for number, (episode, rows) in enumerate(transitions.rows.items()):
        # As uint64, which the int64 of the feature stands for.
        name = str(episode % (1 << 64))
        table = np.frombuffer(rows, _TRANSITION)
        order = _order(table)
        if order is None:
            verdict = QuarantineError(
                Reason.CORRUPT_EPISODE,
                f"the {len(table)} transitions of episode {name} in this shard must"
                " lead from one to the next, and do not: some are lost, or lie in"
                " another shard",
            )
            item_id = f"{partition.relative_path}/{name}"
            yield _lost(partition, names, item_id, number, verdict)
            continue
        table = table[order]
        newest = [frames[frame] for frame in table["before"][:, -1].tolist()]
        yield _make(
            partition, names, number, name, newest, table["action"], table["reward"]
        )


def _order(table: NDArray[np.void]) -> NDArray[np.int64] | None:
    """Returns the order of an episode's transitions; None if there is none."""
    ends = table["discount"] == 0
    frames = np.concatenate([table["before"], table["after"]]).astype(np.int64)
    actions = np.concatenate([table["action"], table["next_action"]])
    for states in (np.column_stack([frames, actions]), frames):
        _, number = np.unique(states, axis=0, return_inverse=True)
        before, after = np.split(number.reshape(-1), 2)
        if (order := rlu_links.chain(before, after, ends)) is not None:
            return order
    return None


def _lost(
    partition: base.Partition,
    names: tuple[str, str],
    item_id: str | None,
    number: int,
    verdict: QuarantineError,
) -> Unreadable:
    return Unreadable(
        source=partition.path,
        item_id=item_id,
        number=number,
        task=names[0],
        agent=names[1],
        reason=verdict.reason,
        detail=verdict.detail,
    )
