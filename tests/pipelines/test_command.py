"""How commands end."""

from collections.abc import Sequence
from typing import Any

import pytest

from gato.pipelines.command import run_command
from gato.schemas.errors import GatoError, UsageError


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (GatoError("it is so"), 1, "error: it is so"),
        (UsageError("say it so"), 2, "error: say it so"),
        (GatoError("it is so [while running 'A/B']"), 1, "error: it is so"),
        (KeyboardInterrupt(), 130, "run the same command again"),
        # As Beam raises it out of a worker.
        (
            RuntimeError("KeyboardInterrupt [while running 'BuildShards/PlanBuckets']"),
            130,
            "run the same command again",
        ),
        (OSError(28, "No space left on device", "/full"), 1, "/full: No space left"),
    ],
)
def test_errors_become_messages_and_exit_codes(
    capsys: Any, error: BaseException, code: int, text: str
) -> None:
    def run(_: Sequence[str] | None) -> int:
        raise error

    assert run_command(run, []) == code
    assert text in capsys.readouterr().err


def test_a_bug_is_not_hidden() -> None:
    def run(_: Sequence[str] | None) -> int:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_command(run, [])
