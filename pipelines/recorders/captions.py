"""Records rendered scenes with captions as webdataset tars: png, txt and json each."""

import dataclasses
import hashlib
import io
import json
import pathlib
import tarfile
from collections.abc import Callable

import cv2
import rich.console

from gato.pipelines.recorders import pool, scenes, workplace
from gato.schemas import files
from gato.schemas.errors import GatoError, UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to draw.

    Attributes:
        output: The folder of the tars.
        scenes: How many.
        scenes_per_tar: How many share a tar.
        seed: Decides every scene and caption.
        workers: How many processes.
    """

    output: pathlib.Path
    scenes: int = 1000
    scenes_per_tar: int = 1000
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("scenes", "scenes_per_tar", "workers"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} is at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"--seed is in [0, 2**64), got {self.seed}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    path: pathlib.Path
    seed: int
    first: int
    stop: int


def draw(seed: int, number: int) -> dict[str, bytes]:
    """Returns the files of one scene by extension."""
    scene = scenes.draw_scene(seed, number)
    caption = scenes.describe(scene, seed, number)
    image = scenes.render(scene)
    encoded, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise GatoError(f"scene {number}: OpenCV could not write it as PNG")
    content = png.tobytes()
    state = {
        "key": f"{number:08d}",
        "caption": caption,
        "status": "success",
        "width": image.shape[1],
        "height": image.shape[0],
        "sha256": hashlib.sha256(content).hexdigest(),
        "scene": dataclasses.asdict(scene),
    }
    return {
        "png": content,
        "txt": caption.encode(),
        "json": json.dumps(state).encode(),
    }


def _write_tar(job: _Job, advance: Callable[[], None]) -> None:
    with (
        files.open_atomic(str(job.path)) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for number in range(job.first, job.stop):
            for extension, content in draw(job.seed, number).items():
                # No time and no owner: the same command writes the same bytes.
                member = tarfile.TarInfo(f"{number:08d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            advance()


def record(options: Options) -> None:
    """Writes the tars that are not there yet.

    Raises:
        UsageError: If the folder holds other scenes.
    """
    recipe = {
        "scenes": options.scenes,
        "scenes_per_tar": options.scenes_per_tar,
        "seed": options.seed,
    }
    workplace.check_recipe(options.output / "recipe.json", recipe)
    step = options.scenes_per_tar
    jobs = [
        _Job(
            path=options.output / f"scenes-{first // step:05d}.tar",
            seed=options.seed,
            first=first,
            stop=min(first + step, options.scenes),
        )
        for first in range(0, options.scenes, step)
    ]
    missing = [job for job in jobs if not job.path.exists()]
    pool.run_all(
        _write_tar,
        missing,
        workers=options.workers,
        title="Drawing scenes",
        items="scenes",
        expected=sum(job.stop - job.first for job in missing),
    )
    rich.console.Console().print(
        f"{options.scenes:,} captioned scenes in {len(jobs)} tars in {options.output}"
        f" ({len(jobs) - len(missing)} were there)"
    )
