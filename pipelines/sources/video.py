"""Frames of a video file by their times, each decoded once, in order.

Needs PyAV, which the extra `video` installs.
"""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gato.schemas import files
from gato.schemas.errors import QuarantineError, Reason, UsageError

# Further ahead than so many seconds, the next key frame before is sought.
_SKIP_SECONDS = 2.0


def check_installed(path: str, keys: Sequence[str]) -> None:
    """Checks that videos can be decoded if some are to be.

    Raises:
        UsageError: If PyAV is needed and not there.
    """
    if keys and importlib.util.find_spec("av") is None:
        raise UsageError(
            f"{path}: the videos {', '.join(sorted(keys))} need PyAV, which is not"
            " installed. Install it with `pip install 'gato-pipelines[video]'`, or"
            " leave them out with observations.exclude."
        )


class VideoReader:
    """One video file, open for reading forward."""

    def __init__(self, path: str) -> None:
        """Opens the file.

        Raises:
            Exception: Whatever PyAV raises of a damaged file.
        """
        import av

        with contextlib.ExitStack() as stack:
            source: Any = (
                files.local_path(path)
                if files.is_local(path)
                else stack.enter_context(files.open_read(path))
            )
            self._container: Any = stack.enter_context(av.open(source))
            self._stream = self._container.streams.video[0]
            self._height, self._width = self._stream.height, self._stream.width
            self._stack = stack.pop_all()
        self._frames: Iterator[Any] = self._container.decode(self._stream)
        self._current: Any = None
        self._next: Any = self._decode()

    def close(self) -> None:
        """Closes the file."""
        self._stack.close()

    def frames(self, times: NDArray[np.float64], tolerance: float) -> NDArray[np.uint8]:
        """Returns the frame nearest to each time.

        Args:
            times: In seconds, ascending, after those of earlier calls; earlier ones
                cost a search.
            tolerance: Seconds that a frame may be off.

        Returns:
            uint8 [T, H, W, 3], RGB.

        Raises:
            QuarantineError: CORRUPT_EPISODE if there is no such frame.
            Exception: Whatever PyAV raises of damaged data.
        """
        self._seek(float(times[0]))
        found = np.empty((len(times), self._height, self._width, 3), np.uint8)
        for place, time in enumerate(times.tolist()):
            self._advance(time)
            frame = self._current
            if frame is None or abs(frame.time - time) > tolerance:
                raise QuarantineError(
                    Reason.CORRUPT_EPISODE,
                    f"a step has a frame of the video at its time; step {place} is at"
                    f" {time:.4f} s, the nearest frame at"
                    f" {'no time' if frame is None else f'{frame.time:.4f} s'}",
                )
            found[place] = frame.to_ndarray(format="rgb24")
        return found

    def _advance(self, time: float) -> None:
        """Makes the nearest frame to a time, of those from here on, the current one."""
        while self._next is not None and (
            self._current is None
            or abs(self._next.time - time) <= abs(self._current.time - time)
        ):
            self._current, self._next = self._next, self._decode()

    def _decode(self) -> Any:
        for frame in self._frames:
            if frame.time is not None:
                return frame
        return None

    def _seek(self, time: float) -> None:
        here = None if self._current is None else self._current.time
        ahead = self._next is not None and time <= self._next.time + _SKIP_SECONDS
        if ahead and (here is None or here <= time):
            return
        # A frame's length before, because times are rounded.
        ticks = max(0, round(time / self._stream.time_base) - 1)
        self._container.seek(ticks, backward=True, stream=self._stream)
        self._frames = self._container.decode(self._stream)
        self._current, self._next = None, self._decode()
