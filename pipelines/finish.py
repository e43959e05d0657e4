"""The ends of a build: the verdict on the input, manifests, and clean-up."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from gato.pipelines.columns import OrderKey
from gato.pipelines.decide import Status, TaskDecision
from gato.schemas import files, manifest
from gato.schemas.config import BuildConfig, Dataset
from gato.schemas.errors import GatoError
from gato.schemas.hashing import fingerprint
from gato.schemas.shards import SPLITS
from gato.tokenizers.packing import best_fit_decreasing_rows

FAILURE_NAME = "_failed.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a data set is to be assembled, and all that its plan must know.

    Attributes:
        dataset: Its name.
        failure: Why not, for the user; None if it is.
        tasks: Decisions by task; "" for documents.
        last: The last item within `--limit`.
    """

    dataset: str
    failure: str | None
    tasks: dict[str, TaskDecision]
    last: OrderKey | None


def judge(
    dataset: Dataset,
    config: BuildConfig,
    decisions: Sequence[TaskDecision],
    control: bool,
) -> Verdict:
    """Decides the error budget of a data set, in this one place.

    Args:
        dataset: Its config.
        config: The build config.
        decisions: Of each task, or of each fragment of documents.
        control: Whether it holds episodes (else documents).
    """
    totals = _sum_counts(decisions)
    quarantined = totals[Status.QUARANTINED.name]
    read = sum(totals.values()) - totals[Status.NOT_READ.name]
    noun = "episodes" if control else "documents"
    duplicate = next((d.duplicate for d in decisions if d.duplicate), None)
    reasons = ", ".join(
        f"{n} {reason}" for reason, n in _sum_reasons(decisions).items()
    )
    failure = None
    if duplicate is not None:
        failure = (
            f"{dataset.name}: the ids of episodes are unique in a data set, and"
            f" {duplicate!r} was read twice. Do two of the paths hold the same data?"
        )
    elif read == 0:
        failure = f"{dataset.name}: no {noun} were found in {list(dataset.paths)}."
    elif quarantined > config.max_quarantine_fraction * read:
        failure = (
            f"{dataset.name}: at most {config.max_quarantine_fraction:.2%} of the"
            f" {noun} may be quarantined (max_quarantine_fraction), and {quarantined}"
            f" of {read} were: {reasons}. {dataset.name}/{manifest.QUARANTINE_NAME}"
            " names each; mend the input or the config, or raise the budget."
        )
    elif totals[Status.KEPT.name] == 0:
        failure = (
            f"{dataset.name}: none of the {read} {noun} were kept:"
            f" {totals[Status.LOW_RETURN.name]} by the filter,"
            f" {totals[Status.EXCLUDED.name]} by tasks and max_episodes, {quarantined}"
            " quarantined. Widen filter or tasks."
        )
    if control:
        tasks = {d.task: d for d in decisions}
    else:
        tasks = {"": _merged(decisions)} if decisions else {}
    last = next((d.last for d in decisions if d.last is not None), None)
    return Verdict(dataset=dataset.name, failure=failure, tasks=tasks, last=last)


def _merged(decisions: Sequence[TaskDecision]) -> TaskDecision:
    return dataclasses.replace(
        decisions[0],
        counts=dict(_sum_counts(decisions)),
        reasons=dict(_sum_reasons(decisions)),
        kept_by_agent={},
        timesteps=0,
    )


def _sum_counts(decisions: Iterable[TaskDecision]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for decision in decisions:
        totals.update(decision.counts)
    return totals


def _sum_reasons(decisions: Iterable[TaskDecision]) -> dict[str, int]:
    reasons: Counter[str] = Counter()
    for decision in decisions:
        reasons.update(decision.reasons)
    return dict(sorted(reasons.items()))


def write_quarantine(
    folder: str, rows: Iterable[tuple[OrderKey, dict[str, Any]]]
) -> None:
    """Writes `quarantine.jsonl`, in collection order."""
    with files.open_atomic(files.join(folder, manifest.QUARANTINE_NAME)) as file:
        for _, row in sorted(rows, key=lambda entry: entry[0]):
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def dataset_manifest(
    *,
    dataset: Dataset,
    config: BuildConfig,
    written_config: dict[str, Any],
    fingerprint: str,
    vocabulary: manifest.VocabularyInfo,
    token_dtype: Any,
    control: bool,
    verdict: Verdict,
    summaries: Sequence[dict[str, Any]],
) -> manifest.DatasetManifest:
    """Sums decisions and shard summaries into a data set's manifest.

    Args:
        dataset: Its config.
        config: The build config.
        written_config: What the manifest keeps of both.
        fingerprint: Of input, config and limit.
        vocabulary: Id ranges.
        token_dtype: dtype of the tokens.
        control: Whether it holds episodes.
        verdict: The plan's decisions.
        summaries: Of every shard of both splits.
    """
    decisions = list(verdict.tasks.values())
    totals = _sum_counts(decisions)
    accounts = manifest.Accounts(
        read=sum(totals.values()) - totals[Status.NOT_READ.name],
        kept=totals[Status.KEPT.name],
        low_return=totals[Status.LOW_RETURN.name],
        excluded=totals[Status.EXCLUDED.name],
        quarantined=_sum_reasons(decisions),
    )
    counts = [summary["counts"] for summary in summaries]
    tokens = _sum([c["tokens"] for c in counts])
    rows = sum(summary["rows"] for summary in summaries)
    length = config.sequence_length
    return manifest.DatasetManifest(
        schema_version=manifest.SCHEMA_VERSION,
        dataset=dataset.name,
        weight=dataset.weight,
        fingerprint=fingerprint,
        sequence_length=length,
        token_dtype=token_dtype,
        config=written_config,
        vocabulary=vocabulary,
        episodes=accounts if control else None,
        documents=None if control else accounts,
        tasks={
            name: _task_summary(decision)
            for name, decision in sorted(verdict.tasks.items())
            if name and _read_at_all(decision)
        },
        timesteps=sum(c["timesteps"] for c in counts),
        tokens=manifest.TokenCounts(**tokens),
        prompt_tokens=sum(c["prompt_tokens"] for c in counts),
        targets=sum(c["targets"] for c in counts),
        local_position_clamped=sum(c["local_position_clamped"] for c in counts),
        prompts=manifest.PromptCounts(**_sum([c["prompts"] for c in counts])),
        rows=rows,
        padding_floor=_padding_floor(summaries, length),
        splits={split: _split_info(split, summaries, length) for split in SPLITS},
    )


def _read_at_all(decision: TaskDecision) -> bool:
    """Whether the task has episodes that tasks.exclude did not take out."""
    counts = decision.counts
    return any(counts.get(s.name) for s in Status if s not in _OUT) or (
        decision.max_hash is not None
    )


_OUT = (Status.EXCLUDED, Status.NOT_READ)


def _task_summary(decision: TaskDecision) -> manifest.TaskSummary:
    counts = decision.counts
    spec = decision.spec
    return manifest.TaskSummary(
        episodes_read=sum(counts.values()) - counts[Status.NOT_READ.name],
        kept=counts[Status.KEPT.name],
        low_return=counts[Status.LOW_RETURN.name],
        quarantined=dict(sorted(decision.reasons.items())),
        expert_return=decision.expert_return,
        random_return=decision.random_return,
        window=decision.window,
        order=decision.order,
        agents=sorted(decision.kept_by_agent),
        timesteps=decision.timesteps,
        spec=None if spec is None else manifest.TaskSpec.model_validate_json(spec),
    )


def _sum(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for count in counts:
        totals.update(count)
    return dict(totals)


def _lengths(summaries: Sequence[dict[str, Any]], split: str) -> dict[int, int]:
    counts = [
        s["counts"]["segment_lengths"]
        for s in summaries
        if s["name"].startswith(f"{split}-")
    ]
    return {int(length): n for length, n in _sum(counts).items()}


def _padding_floor(summaries: Sequence[dict[str, Any]], length: int) -> float:
    """Returns the share of padding an offline best-fit-decreasing would leave."""
    by_split = [_lengths(summaries, split) for split in SPLITS]
    rows = sum(best_fit_decreasing_rows(counts, length) for counts in by_split)
    used = sum(size * n for counts in by_split for size, n in counts.items())
    return 1 - used / (rows * length) if rows else 0.0


def _split_info(
    split: str, summaries: Sequence[dict[str, Any]], length: int
) -> manifest.SplitInfo:
    mine = sorted(
        (s for s in summaries if s["name"].startswith(f"{split}-")),
        key=lambda summary: summary["name"],
    )
    rows = sum(summary["rows"] for summary in mine)
    keys = ("name", "rows", "bytes", "sha256", "idx_sha256")
    return manifest.SplitInfo(
        rows=rows,
        tokens=rows * length,
        shards=[manifest.ShardInfo(**{key: s[key] for key in keys}) for s in mine],
    )


def root_manifest(
    output: str, config: BuildConfig, config_fingerprint: str, text_round_trips: bool
) -> manifest.RootManifest | None:
    """Derives the root manifest from the manifests of the config's finished data sets.

    Args:
        output: The output folder or URL.
        config: The build config.
        config_fingerprint: Of the whole config.
        text_round_trips: Whether the tokenizer gives texts back from their tokens.

    Returns:
        None if no data set is finished.
    """
    finished = []
    for dataset in config.datasets:
        folder = files.join(output, dataset.name)
        if files.exists(files.join(folder, manifest.MANIFEST_NAME)):
            finished.append(manifest.load_dataset_manifest(folder))
    if not finished:
        return None
    first = finished[0]
    for other in finished[1:]:
        if (other.vocabulary, other.sequence_length) != (
            first.vocabulary,
            first.sequence_length,
        ):
            raise GatoError(
                f"{output}: the data sets of one output share vocabulary and sequence"
                f" length; {first.dataset!r} and {other.dataset!r} do not. Build them"
                " again with --overwrite, or use another output."
            )
    return manifest.RootManifest(
        schema_version=manifest.SCHEMA_VERSION,
        sequence_length=first.sequence_length,
        token_dtype=first.token_dtype,
        tokenizer=manifest.TOKENIZER_NAME,
        text_round_trips=text_round_trips,
        vocabulary=first.vocabulary,
        config_fingerprint=config_fingerprint,
        datasets={
            m.dataset: manifest.RootDataset(
                weight=m.weight, fingerprint=m.fingerprint, rows=m.rows
            )
            for m in finished
        },
    )


def manifest_fingerprint(
    dataset: Dataset,
    config: BuildConfig,
    identities: Sequence[tuple[str, str]],
    tokenizer_sha256: str,
    limit: int | None,
) -> str:
    """Returns the fingerprint that says which input and config made a data set.

    Args:
        dataset: Its config, paths as written; the weight does not count.
        config: The build config, of which the global keys count.
        identities: (relative path, identity) of each source path.
        tokenizer_sha256: Of the SentencePiece model.
        limit: `--limit`.
    """
    own = dataset.model_dump(mode="json", exclude={"weight"})
    shared = config.model_dump(mode="json", exclude={"datasets", "text_tokenizer"})
    return fingerprint(
        json.dumps([own, shared], sort_keys=True),
        tokenizer_sha256,
        str(limit),
        *(f"{path}\0{identity}" for path, identity in identities),
    )
