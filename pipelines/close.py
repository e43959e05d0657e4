"""The last step of a build: weights, the root manifest, and clean-up.

Everything here may be done again: a build that was killed in between, and one of which
every data set stands finished, end with the same files.
"""

from collections.abc import Sequence

from gato.pipelines import finish
from gato.pipelines.build_job import BuildJob
from gato.schemas import files, manifest


def close_build(job: BuildJob, finished: Sequence[str]) -> None:
    """Brings what is not a data set's own up to date.

    Args:
        job: The build.
        finished: The data sets that are finished now, or were before, of those that
            this command is to build.
    """
    for name in finished:
        _update_weight(job, name)
    root = finish.root_manifest(
        job.output, job.config, job.config_fingerprint, job.text_round_trips
    )
    if root is not None:
        path = files.join(job.output, manifest.MANIFEST_NAME)
        _write_changed(path, manifest.dump_manifest(root))
    for name in finished:
        folder = job.fragments_folder(name)
        if job.keep_fragments:
            _remove_temporaries(folder)
        else:
            files.remove_folder(folder)
    folder = files.join(job.output, manifest.FRAGMENTS_FOLDER)
    if not files.list_folder(folder):
        files.remove_folder(folder)
    _remove_temporaries(job.output)


def _update_weight(job: BuildJob, name: str) -> None:
    """Writes the config's weight, which changes no row, into a manifest."""
    folder = job.folder(name)
    standing = manifest.load_dataset_manifest(folder)
    weight = next(d.weight for d in job.config.datasets if d.name == name)
    config = standing.config | {
        "dataset": standing.config["dataset"] | {"weight": weight}
    }
    updated = standing.model_copy(update={"weight": weight, "config": config})
    path = files.join(folder, manifest.MANIFEST_NAME)
    _write_changed(path, manifest.dump_manifest(updated))


def _write_changed(path: str, data: bytes) -> None:
    if not files.exists(path) or files.read_bytes(path) != data:
        files.write_atomic(path, data)


def _remove_temporaries(folder: str) -> None:
    """Removes files that killed attempts began to write."""
    for name in files.list_folder(folder):
        if files.TEMPORARY_SUFFIX in name:
            files.remove(files.join(folder, name))
