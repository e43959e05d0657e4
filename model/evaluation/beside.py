"""Results of other policies, shown beside a checkpoint's.

A result is what gato-evaluate or `python -m gato.model.baselines` wrote; its name is
that of its file. Tasks and domains are matched by name.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from gato.model.evaluation.scores import Score
from gato.schemas.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """Another's scores.

    Attributes:
        name: Of its file, without the suffix.
        tasks: By domain and task.
        domains: By name.
        overall: The mean over domains.
    """

    name: str
    tasks: dict[tuple[str, str], Score]
    domains: dict[str, Score]
    overall: Score

    def as_json(self) -> dict[str, Any]:
        """Returns what a report holds."""
        return {
            "overall": self.overall.as_json(),
            "domains": {name: one.as_json() for name, one in self.domains.items()},
            "tasks": [
                {"domain": domain, "task": task, "score": one.as_json()}
                for (domain, task), one in self.tasks.items()
            ],
        }


def load_results(paths: Sequence[str]) -> list[Result]:
    """Reads results.

    Raises:
        UsageError: If a file is none, or two have one name.
    """
    results = [_load(path) for path in paths]
    names = [one.name for one in results]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"--beside: results are named for their files, and {name} stands there"
                " more than once. Rename one."
            )
    return results


def _load(path: str) -> Result:
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        return Result(
            name=pathlib.Path(path).stem,
            tasks={
                (one["domain"], one["task"]): Score(**one["score"])
                for one in content["tasks"]
            },
            domains={name: Score(**one) for name, one in content["domains"].items()},
            overall=Score(**content["overall"]),
        )
    except FileNotFoundError as error:
        raise UsageError(f"--beside: {path}: no such result") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--beside: {path}: not a result that gato-evaluate or"
            f" gato.model.baselines wrote: {type(error).__name__}: {error}"
        ) from error
