"""Videos of episodes, written by the environment's own process.

MP4 by PyAV (`pip install av`), GIF by OpenCV; frame by frame for MP4, so a long episode
costs no memory. No framework is loaded here.
"""

import importlib.util
import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gato.schemas.errors import UsageError

FORMATS = ("mp4", "gif")
# A GIF's frames wait in memory, and browsers show no more of them a second.
_GIF_FRAMES, _GIF_RATE = 500, 20


def check_videos_can_be_written(format_name: str) -> None:
    """Checks for PyAV before hours are spent.

    Raises:
        UsageError: If MP4 is asked for and PyAV is not installed.
    """
    if format_name == "mp4" and importlib.util.find_spec("av") is None:
        raise UsageError(
            "MP4 videos are written by PyAV, which is not installed. Run: pip install"
            " av, or give --video_format gif."
        )


class Video:
    """A file that frames are added to; it has its name only when it is whole.

    Args:
        path: Ends in .mp4 or .gif.
        rate: Frames a second.
    """

    def __init__(self, path: str, rate: int) -> None:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._path = path
        self._unfinished = f"{path}.part"
        self._rate = rate
        self._frames: list[NDArray[np.uint8]] = []
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Appends one picture, uint8 [H, W, 3]."""
        if self._path.endswith(".gif"):
            if len(self._frames) < _GIF_FRAMES:
                self._frames.append(np.ascontiguousarray(frame[..., ::-1]))
            return
        import av

        # H.264 halves both sides of its colours.
        height, width = (side // 2 * 2 for side in frame.shape[:2])
        if self._container is None:
            self._container = av.open(self._unfinished, "w", format="mp4")
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.height, self._stream.width = height, width
            self._stream.pix_fmt = "yuv420p"
        picture = np.ascontiguousarray(frame[:height, :width])
        made = av.VideoFrame.from_ndarray(picture, format="rgb24")
        self._container.mux(self._stream.encode(made))

    def finish(self) -> None:
        """Writes what is left and gives the file its name."""
        if self._path.endswith(".gif"):
            animation: Any = cv2.Animation()
            animation.frames = self._frames
            duration = 1000 // min(self._rate, _GIF_RATE)
            animation.durations = np.full(len(self._frames), duration, np.int32)
            done, data = cv2.imencodeanimation(".gif", animation)
            if not done:
                raise OSError(f"{self._path}: OpenCV could not write it")
            with open(self._unfinished, "wb") as file:
                file.write(data.tobytes())
        else:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        os.replace(self._unfinished, self._path)
