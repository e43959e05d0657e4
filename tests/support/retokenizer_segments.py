"""Compares segments, one by one, with what the raw data and the laws say.

Part of the independent re-tokenizer: imports nothing of ours.
"""

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from retokenizer_items import Item, Tokens
from retokenizer_plan import (
    Plan,
    Window,
    cut,
    fitting_steps,
    may_not_fit,
    prompt_problem,
)
from retokenizer_shards import DecodedRow, expect, expect_arrays, expect_equal

CONTROL_KEYS = {
    "dataset",
    "task",
    "agent",
    "episode",
    "first_step",
    "num_steps",
    "start",
    "length",
    "return",
    "success",
    "prompt",
}
PROMPT_KEYS = {"mode", "episode", "first_step", "num_steps", "length"}


def _join(parts: Iterable[Tokens]) -> Tokens:
    parts = list(parts)
    images, start = [], 0
    for part in parts:
        images += [(start + slot, pixels) for slot, pixels in part.images]
        start += len(part.tokens)
    return Tokens(
        tokens=np.concatenate([p.tokens for p in parts]),
        kind=np.concatenate([p.kind for p in parts]),
        mask=np.concatenate([p.mask for p in parts]),
        local=np.concatenate([p.local for p in parts]),
        steps=[slots for p in parts for slots in p.steps],
        images=images,
    )


class DatasetChecker:
    """Compares the segments of one data set with what its raw data say."""

    def __init__(self, config: dict[str, Any], dataset: dict[str, Any]) -> None:
        self.config, self.dataset = config, dataset
        self.lossless = dataset["image"]["encoding"] != "jpeg"
        self.split_of: dict[str, str] = {}
        self.clamped = self.segments = self.images = 0

    def compare(self, row: DecodedRow, entry: dict[str, Any], expected: Tokens) -> None:
        """Compares one segment's slots and images with the expected ones."""
        place = f"{row.place} segment at slot {entry['start']}"
        here = slice(entry["start"], entry["start"] + entry["length"])
        expect_equal(entry["length"], len(expected.tokens), place, "length")
        mask = expected.mask.copy()
        mask[0] = 0
        expect_arrays(row.kind[here], expected.kind, place, "kind")
        expect_arrays(row.tokens[here], expected.tokens, place, "tokens")
        expect_arrays(row.loss_mask[here], mask, place, "loss_mask")
        local = np.minimum(expected.local, 511)
        expect_arrays(row.local_position[here], local, place, "local_position")
        self.clamped += int((expected.local > 511).sum())
        self.segments += 1
        found = [
            (int(first) - here.start, pixels)
            for (first, *_), pixels in zip(row.image_info, row.images, strict=True)
            if here.start <= first < here.stop
        ]
        self.images += len(found)
        slots = [slot for slot, _ in expected.images]
        expect_equal([slot for slot, _ in found], slots, place, "slots of images")
        for (slot, pixels), (_, wanted) in zip(found, expected.images, strict=True):
            where = f"{place} image at {slot}"
            expect_equal(pixels.shape, wanted.shape, where, "size")
            if self.lossless:
                expect_arrays(pixels, wanted, where, "pixels")

    def place_in_split(self, item: str, split: str, place: str) -> None:
        """Records where an item lies; all of it lies in one split."""
        before = self.split_of.setdefault(item, split)
        expect_equal(split, before, place, f"split of {item}")

    def check_equal_content(self, contents: Iterable[tuple[bytes, str]]) -> None:
        """Equal content never straddles the splits."""
        first: dict[bytes, str] = {}
        for content, item in contents:
            other = first.setdefault(content, item)
            expect_equal(
                self.split_of[item], self.split_of[other], item, f"split, as {other}'s"
            )


class EpisodeChecker(DatasetChecker):
    """Windows and prompts of control data."""

    def __init__(
        self, config: dict[str, Any], dataset: dict[str, Any], plan: Plan
    ) -> None:
        super().__init__(config, dataset)
        self.plan = plan
        self.missing: dict[tuple[str, int, int], Window] = {}
        for item in plan.kept.values():
            for window in cut(
                item.id, self.content(item.id).steps, config, self.fraction
            ):
                key = (item.id, window.first_step, window.num_steps)
                self.missing[key] = window
        self.windows = dict(self.missing)
        self.bare: list[Window] = []
        self.providers: list[tuple[str, str]] = []
        self.prompts: collections.Counter = collections.Counter(
            windows=len(self.windows)
        )

    @property
    def fraction(self) -> float:
        """Share of windows that are drawn for a prompt."""
        return self.config["prompts"]["fraction"]

    def content(self, episode: str) -> Tokens:
        """Returns the slots of a kept episode."""
        content = self.plan.kept[episode].content
        assert content is not None
        return content

    def check_entry(self, entry: dict[str, Any], place: str) -> Item:
        """Compares a segment's provenance with its episode."""
        expect_equal(set(entry), CONTROL_KEYS, place, "provenance keys")
        item = self.plan.kept.get(entry["episode"])
        if item is None:
            raise AssertionError(f"{place}: {entry['episode']} is not a kept episode")
        for key, value in (
            ("dataset", self.dataset["name"]),
            ("task", item.task),
            ("agent", item.agent),
            ("return", item.total),
            ("success", item.success),
        ):
            expect_equal(entry[key], value, place, key)
        return item

    def _prompt(
        self, entry: dict[str, Any], item: Item, window: Window, place: str
    ) -> list[Tokens]:
        prompt = entry["prompt"]
        if prompt is None:
            if window.is_drawn:
                self.bare.append(window)
            return []
        expect_equal(set(prompt), PROMPT_KEYS, place, "prompt keys")
        expect(window.is_drawn, place, "prompted, but its hash is not below fraction")
        expect(window.has_room, place, "prompted, but its first timestep has no room")
        provider = self.plan.kept.get(prompt["episode"])
        if provider is None:
            raise AssertionError(f"{place}: {prompt['episode']} is not kept")
        expect(provider.id != item.id, place, "an episode prompts itself")
        expect_equal(provider.task, item.task, place, "task of the prompt")
        expect_equal(provider.agent, item.agent, place, "agent of the prompt")
        self.providers.append((provider.id, place))
        first, count = prompt["first_step"], prompt["num_steps"]
        most = self.config["prompts"]["max_tokens"]
        steps = self.content(provider.id).steps
        problem = prompt_problem(prompt["mode"], first, count, steps, most)
        expect(
            problem is None,
            place,
            f"{prompt['mode']} prompt of {count} steps from {first}: {problem}",
        )
        self.prompts.update(["prompted", prompt["mode"]])
        run = self.content(provider.id).run(first, count)
        expect_equal(prompt["length"], len(run.tokens), place, "length of the prompt")
        mask = run.mask if self.config["loss"]["prompts"] else np.zeros_like(run.mask)
        return [dataclasses.replace(run, kind=run.kind + 8, mask=mask)]

    def check_segment(self, row: DecodedRow, entry: dict[str, Any], split: str) -> None:
        """Checks one segment of a training or validation row."""
        place = f"{row.place} segment at slot {entry.get('start')}"
        item = self.check_entry(entry, place)
        key = (item.id, entry["first_step"], entry["num_steps"])
        expect(
            key in self.windows, place, f"no window of {item.id} is cut as {key[1:]}"
        )
        expect(key in self.missing, place, f"window {key} stands twice")
        window = self.missing.pop(key)
        parts = self._prompt(entry, item, window, place)
        body = self.content(item.id).run(window.first_step, window.num_steps)
        self.compare(row, entry, _join([*parts, body]))
        self.place_in_split(item.id, split, place)

    def finish(self) -> None:
        """Checks what needs all segments: providers, missing and bare windows."""
        name = self.dataset["name"]
        expect(not self.missing, name, f"missing windows {list(self.missing)[:3]}")
        for provider, place in self.providers:
            split = self.split_of[provider]
            expect_equal(split, "train", place, f"split of the provider {provider}")
        for window in self.bare:
            self.prompts[self._why_bare(window)] += 1
        self.check_equal_content(
            (self.content(i).tokens.tobytes() + _pixel_bytes(self.content(i)), i)
            for i in self.plan.kept
        )

    def _why_bare(self, window: Window) -> str:
        if not window.has_room:
            return "no_room"
        item = self.plan.kept[window.episode]
        providers = [
            other.id
            for other in self.plan.kept.values()
            if (other.task, other.agent) == (item.task, item.agent)
            and other.id != item.id
            and self.split_of[other.id] == "train"
        ]
        if not providers:
            return "no_provider"
        most = self.config["prompts"]["max_tokens"]
        expect(
            any(may_not_fit(self.content(p).steps, most) for p in providers),
            f"{self.dataset['name']} {window}",
            f"is drawn and unprompted, though {len(providers)} episodes would fit",
        )
        return "no_fit"

    def check_demonstrations(self, rows: list[DecodedRow]) -> None:
        """The first timesteps that fit, of each task's five best training episodes."""
        found = collections.defaultdict(list)
        counts = self.clamped, self.segments, self.images
        length = self.config["sequence_length"]
        for row in rows:
            for entry in row.provenance:
                place = f"{row.place} segment at slot {entry.get('start')}"
                item = self.check_entry(entry, place)
                expect_equal(entry["prompt"], None, place, "prompt")
                expect_equal(entry["first_step"], 0, place, "first_step")
                steps = self.content(item.id).steps
                count = fitting_steps(steps, 0, length)
                expect_equal(entry["num_steps"], count, place, "num_steps")
                self.compare(row, entry, self.content(item.id).run(0, count))
                found[item.task].append(item.id)
        self.clamped, self.segments, self.images = counts
        for name in self.plan.tasks:
            training = [
                item
                for item in self.plan.kept.values()
                if item.task == name and self.split_of[item.id] == "train"
            ]
            best = sorted(training, key=lambda item: (-item.total, item.order))[:5]
            expect_equal(
                found[name], [i.id for i in best], name, "demonstrations of the task"
            )


def _pixel_bytes(content: Tokens) -> bytes:
    return b"".join(pixels.tobytes() for _, pixels in content.images)


class DocumentChecker(DatasetChecker):
    """Pieces of text, and groups of captioned images."""

    def __init__(
        self, config: dict[str, Any], dataset: dict[str, Any], plan: Plan
    ) -> None:
        super().__init__(config, dataset)
        self.pieces: dict[str, tuple[Item, Tokens]] = {}
        length = config["sequence_length"]
        for item in plan.kept.values():
            assert item.content is not None
            size = len(item.content.tokens)
            if size <= length:
                self.pieces[item.id] = item, item.content
                continue
            for k, start in enumerate(range(0, size, length)):
                piece = item.content.slots(start, min(start + length, size))
                self.pieces[f"{item.id}#{k}"] = item, piece
        self.missing = set(self.pieces)
        self.pairs: collections.Counter = collections.Counter()
        self.prompts: collections.Counter = collections.Counter()

    def check_segment(self, row: DecodedRow, entry: dict[str, Any], split: str) -> None:
        """Checks one segment of a training or validation row."""
        place = f"{row.place} segment at slot {entry.get('start')}"
        keys = {"dataset", "documents", "start", "length"}
        expect_equal(set(entry), keys, place, "provenance keys")
        expect_equal(entry["dataset"], self.dataset["name"], place, "dataset")
        names = entry["documents"]
        for name in names:
            expect(name in self.pieces, place, f"there is no document {name!r}")
            expect(name in self.missing, place, f"document {name!r} stands twice")
            self.missing.remove(name)
            self.place_in_split(self.pieces[name][0].id, split, place)
        parts = [self.pieces[name][1] for name in names]
        if parts[0].images:
            expect(1 <= len(parts) <= 5, place, "one to five pairs a segment")
            distinct = {self.pieces[name][0].image for name in names}
            expect_equal(len(distinct), len(names), place, "number of distinct images")
            self.pairs[len(parts)] += 1
        else:
            expect_equal(len(parts), 1, place, "number of texts")
        self.compare(row, entry, _join(parts))

    def finish(self) -> None:
        """Checks that nothing is missing and equal content lies together."""
        name = self.dataset["name"]
        expect(not self.missing, name, f"missing documents {sorted(self.missing)[:3]}")
        self.check_equal_content(
            (item.image or piece.tokens.tobytes(), item.id)
            for item, piece in self.pieces.values()
        )
