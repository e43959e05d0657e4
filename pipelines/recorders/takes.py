"""Which chunks of a recipe are to be played, and what came of them.

Seeds on which the expert gives up are replaced by the next ones. How many these will be
is not known before, so chunks are played in rounds: the first 100 seeds, which show an
expert that does not solve its task; then as many as seem to be missing, until there are
enough episodes. Where experts do not fail, that is two rounds; a random policy has one.
"""

import itertools
import math
from collections.abc import Sequence

from gato.pipelines.recorders import chunks, pool
from gato.pipelines.recorders.domain import Domain, ExpertFailedError, Recipe, seeds
from gato.pipelines.recorders.minari_writer import Result
from gato.schemas import files
from gato.schemas.errors import GatoError

_FIRST = 100


class Take:
    """A recipe that is being played.

    Args:
        domain: What its task belongs to.
        recipe: Who acts.
        folder: Where the folders of chunks are.
        is_kept: Whether episodes are written, or played for their returns alone.

    Attributes:
        recipe: As given.
        is_kept: As given.
        folder: The folder of its own chunks.
        chunks: Those that were played.
    """

    def __init__(
        self, domain: Domain, recipe: Recipe, folder: str, *, is_kept: bool
    ) -> None:
        self.recipe = recipe
        self.is_kept = is_kept
        self.folder = files.join(folder, chunks.folder_name(domain, recipe))
        self.chunks: list[chunks.Chunk] = []
        self._domain = domain
        self._conditions = chunks.conditions(domain)
        self._seeds = seeds(recipe)
        self._outcomes: list[chunks.Attempt | ExpertFailedError] = []
        self._played: list[chunks.Attempt] = []
        self._failed = 0

    @property
    def is_done(self) -> bool:
        """Whether there are enough episodes."""
        return len(self._played) == self.recipe.episodes

    def next_chunks(self) -> list[chunks.Chunk]:
        """Returns the chunks of the next round; none if there are enough episodes."""
        first, step = len(self._outcomes), self._domain.episodes_per_chunk
        stop = first + self._num_next()
        return [
            chunks.Chunk(
                domain=self._domain,
                recipe=self.recipe,
                first=start,
                seeds=tuple(itertools.islice(self._seeds, min(step, stop - start))),
                folder=self.folder,
                conditions=self._conditions,
                is_kept=self.is_kept,
            )
            for start in range(first, stop, step)
        ]

    def _num_next(self) -> int:
        """Returns how many seeds the next round tries."""
        missing, tried = self.recipe.episodes - len(self._played), len(self._outcomes)
        if not tried and self.recipe.policy != "random":
            return min(missing, _FIRST)
        if not self._played:
            return missing if not tried else _FIRST
        return math.ceil(missing * tried / len(self._played))

    def note(self, played: Sequence[chunks.Chunk]) -> None:
        """Takes what came of chunks that are finished.

        Raises:
            GatoError: If the expert fails on nearly every seed of the task.
        """
        self.chunks += played
        self._outcomes += chunks.read_outcomes(played)
        accepted = list(self._domain.accepted(self.recipe, self._outcomes))
        self._played = [a for a in accepted if not isinstance(a, ExpertFailedError)]
        self._failed = len(accepted) - len(self._played)

    def result(self) -> Result:
        """Returns what it came to, once it is done."""
        solved = [one.solved for one in self._played if one.solved is not None]
        returns = [one.total_reward for one in self._played]
        return Result(
            episodes=len(returns),
            solved=sum(solved) if solved else None,
            steps=sum(one.steps for one in self._played),
            mean_return=math.fsum(returns) / len(returns),
            failed_seeds=self._failed,
        )


def play(takes: Sequence[Take], run_all: pool.RunAll, title: str) -> list[GatoError]:
    """Plays recipes until each is done, or fails; chunks that are there are kept.

    Args:
        takes: The recipes.
        run_all: Does jobs, here or elsewhere.
        title: Stands before the progress bar.

    Returns:
        Why recipes failed.

    Raises:
        GatoError: If a worker fails.
    """
    errors: list[GatoError] = []
    left = list(takes)
    while left:
        rounds = {take: take.next_chunks() for take in left}
        _play_round([c for planned in rounds.values() for c in planned], run_all, title)
        for take, planned in rounds.items():
            try:
                take.note(planned)
            except GatoError as error:
                errors.append(error)
                left.remove(take)
            else:
                if take.is_done:
                    left.remove(take)
    return errors


def _play_round(
    planned: Sequence[chunks.Chunk], run_all: pool.RunAll, title: str
) -> None:
    there = chunks.finished(planned)
    missing = [chunk for chunk in planned if chunk not in there]
    if not missing:
        return
    expected = sum(len(chunk.seeds) for chunk in missing)
    run_all(chunks.play, missing, title=title, items="episodes", expected=expected)
    lost = set(missing) - chunks.finished(missing)
    if lost:
        raise GatoError(
            f"{len(lost)} of {len(missing)} chunks were played and are not in"
            f" {next(iter(lost)).folder} and its neighbours, as this machine sees it."
            " Give an --output that this machine and all workers share."
        )
