"""The loader against tf.data, one core, in turns: limits of rows a second.

    python benchmarks/loader.py [--rows 1024] [--rounds 5]

Rows of 1,024 slots, made here: light (0 to 20 patches) and heavy (46 frames of 64 x 80,
920 patches; PNG and raw). Both sides read the same shards from the page cache, shuffle
and batch deterministically, and decode every image to 16 x 16 patches in one thread.
tf.data parses a batch of Examples at once; it runs in its own process. Rounds alternate
A B A B, medians are compared. Then: seeking to batch 5,000,000, and memory with 1, 16
and 256 shards.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from gato.schemas import manifest as manifests
from gato.schemas.record import Encoding, Kind, Row, encode_row
from gato.schemas.shards import ShardName
from gato.schemas.tfrecord import frame, pack_index
from gato.tokenizers.image import encode_image

LENGTH = 1024
BATCH = 64
VOCABULARY = manifests.VocabularyInfo(
    text=32_000,
    first_continuous=32_000,
    separator=33_024,
    eos=2,
    size=33_025,
    sentencepiece_sha256="0" * 64,
)
# What one H100 at 50% of its peak takes at 1.18B parameters, rows a second.
H100_ROWS = 61


def make_row(generator, kind):
    """One row: `light`, `heavy_png` or `heavy_raw`."""
    kinds = np.full(LENGTH, Kind.TEXT, np.uint8)
    images, info = [], []
    if kind == "light":
        frames = [(16, 16 * int(generator.integers(0, 21)))]
        frames = [size for size in frames if size[1]]
    else:
        frames = [(64, 80)] * 46
    slot = 0
    for height, width in frames:
        count = height * width // 256
        kinds[slot : slot + count] = Kind.IMAGE
        # Flat areas with some detail, as a rendered frame has.
        picture = np.repeat(
            np.repeat(generator.integers(0, 256, (height // 8, width // 8, 3)), 8, 0),
            8,
            1,
        ).astype(np.uint8)
        picture[: height // 4] += generator.integers(
            0, 8, (height // 4, width, 3)
        ).astype(np.uint8)
        if kind == "heavy_png":
            images.append(encode_image(picture, "png")[0])
            info.append((slot, height, width, Encoding.PNG))
        else:
            images.append(picture.tobytes())
            info.append((slot, height, width, Encoding.RAW))
        slot += count + 2
    tokens = generator.integers(0, 32_000, LENGTH).astype(np.uint16)
    tokens[kinds == Kind.IMAGE] = 0
    return Row(
        tokens=tokens,
        kind=kinds,
        loss_mask=(kinds == Kind.TEXT).astype(np.uint8),
        segment=np.ones(LENGTH, np.uint8),
        local_position=np.full(LENGTH, -1, np.int16),
        images=tuple(images),
        image_info=np.array(info, np.int32).reshape(-1, 4),
        provenance=[{"dataset": kind, "documents": ["a"], "start": 0, "length": 1024}],
    )


def write_dataset(folder, kind, rows, num_shards):
    """Writes shards and manifest of one data set."""
    os.makedirs(folder)
    generator = np.random.default_rng(0)
    shards, image_slots = [], 0
    per_shard = -(-rows // num_shards)
    for index in range(num_shards):
        made = [make_row(generator, kind) for _ in range(per_shard)]
        image_slots += sum(int((row.kind == Kind.IMAGE).sum()) for row in made)
        framed = [frame(encode_row(row)) for row in made]
        data = b"".join(framed)
        offsets = np.cumsum([0, *map(len, framed)])[:-1]
        name = str(ShardName(split="train", index=index, count=num_shards))
        with open(f"{folder}/{name}", "wb") as file:
            file.write(data)
        with open(f"{folder}/{name}.idx", "wb") as file:
            file.write(pack_index(offsets, len(data)))
        shards.append(
            manifests.ShardInfo(
                name=name,
                rows=len(made),
                bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                idx_sha256="0" * 64,
            )
        )
    count = per_shard * num_shards
    accounts = manifests.Accounts(
        read=count, kept=count, low_return=0, excluded=0, quarantined={}
    )
    slots = count * LENGTH
    content = manifests.DatasetManifest(
        schema_version=manifests.SCHEMA_VERSION,
        dataset=kind,
        weight=1.0,
        fingerprint=kind,
        sequence_length=LENGTH,
        token_dtype="uint16",
        config={},
        vocabulary=VOCABULARY,
        documents=accounts,
        tasks={},
        timesteps=0,
        tokens=manifests.TokenCounts(image=image_slots, text=slots - image_slots),
        prompt_tokens=0,
        targets=slots - image_slots,
        local_position_clamped=0,
        prompts=manifests.PromptCounts(),
        rows=count,
        padding_floor=0.0,
        splits={
            "train": manifests.SplitInfo(rows=count, tokens=slots, shards=shards),
            "validation": manifests.SplitInfo(rows=0, tokens=0, shards=[]),
        },
    )
    with open(f"{folder}/manifest.json", "wb") as file:
        file.write(manifests.dump_manifest(content))


def ours(folder, threads=1):
    """Returns a function that reads batch t."""
    from gato.model.data import Batches
    from gato.model.shards import find_datasets

    datasets = find_datasets([f"{folder}/train-*.tfrecord"])
    batches = Batches(datasets, batch_size=BATCH, seed=0, groups=1, threads=threads)
    return lambda t: batches[t]


def theirs(folder, kind):
    """Returns a function that reads the next batch by tf.data, in one thread."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    names = ("tokens", "kind", "loss_mask", "segment", "local_position")
    dtypes = (tf.uint16, tf.uint8, tf.uint8, tf.uint8, tf.int16)
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in names}
    spec |= {"images": tf.io.RaggedFeature(tf.string)}
    spec |= {"image_info": tf.io.FixedLenFeature([], tf.string)}

    def cut(image, height, width):
        grid = tf.reshape(image, (height // 16, 16, width // 16, 16, 3))
        return tf.reshape(tf.transpose(grid, (0, 2, 1, 3, 4)), (-1, 768))

    def parse(records):
        parsed = tf.io.parse_example(records, spec)
        out = {
            name: tf.io.decode_raw(parsed[name], dtype, little_endian=True)
            for name, dtype in zip(names, dtypes, strict=True)
        }
        images = parsed["images"].flat_values
        if kind == "heavy_png":
            frames = tf.map_fn(
                lambda data: tf.ensure_shape(
                    tf.io.decode_png(data, channels=3), (64, 80, 3)
                ),
                images,
                fn_output_signature=tf.uint8,
            )
        elif kind == "heavy_raw":
            frames = tf.reshape(tf.io.decode_raw(images, tf.uint8), (-1, 64, 80, 3))
        else:
            # Strips of 16 x 16n lie row by row: decoded one by one, then joined.
            strips = tf.map_fn(
                lambda data: tf.RaggedTensor.from_tensor(
                    cut(
                        tf.io.decode_raw(data, tf.uint8),
                        16,
                        tf.strings.length(data) // 48,
                    )
                ),
                images,
                fn_output_signature=tf.RaggedTensorSpec([None, None], tf.uint8),
            )
            out["patches"] = strips.flat_values
            return out
        grid = tf.reshape(frames, (-1, 4, 16, 5, 16, 3))
        out["patches"] = tf.reshape(tf.transpose(grid, (0, 1, 3, 2, 4, 5)), (-1, 768))
        return out

    files = sorted(
        f"{folder}/{name}" for name in os.listdir(folder) if name.endswith(".tfrecord")
    )
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    dataset = (
        tf.data.TFRecordDataset(files)
        .repeat()
        .shuffle(256, seed=0)
        .batch(BATCH, drop_remainder=True)
        .map(parse, deterministic=True)
        .with_options(options)
    )
    iterator = dataset.as_numpy_iterator()
    return lambda _: next(iterator)


def serve(side, folder, kind, threads):
    """Child process: times as many batches as each line of standard input asks for."""
    read = ours(folder, threads) if side == "ours" else theirs(folder, kind)
    at = 0
    for line in sys.stdin:
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in range(count := int(line)):
            read(at)
            at += 1
        seconds = time.perf_counter() - begin
        spent = time.process_time() - cpu
        print(json.dumps({"rows": count * BATCH, "wall": seconds, "cpu": spent}))
        sys.stdout.flush()


class Child:
    """One side in a process of its own, pinned to one core where that is possible."""

    def __init__(self, side, folder, kind, threads=1, cores=1):
        command = [sys.executable, __file__, "--serve", side, folder, kind]
        available = sorted(os.sched_getaffinity(0))[:cores]
        self._process = subprocess.Popen(
            [*command, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, available),
        )

    def measure(self, batches):
        """Returns the seconds of the processor and of the clock that a row took."""
        self._process.stdin.write(f"{batches}\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        return found["cpu"] / found["rows"], found["wall"] / found["rows"]

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def compare(folder, kind, rounds, batches):
    """Prints medians of both sides, measured in turns."""
    children = {side: Child(side, folder, kind) for side in ("ours", "tf.data")}
    for child in children.values():
        child.measure(2)
    found = {side: [] for side in children}
    for _ in range(rounds):
        for side, child in children.items():
            found[side].append(child.measure(batches))
    for child in children.values():
        child.close()
    # Seconds of the processor: on a shared machine the clock measures the neighbours.
    cpu = {side: statistics.median(c for c, _ in all_) for side, all_ in found.items()}
    wall = {side: statistics.median(w for _, w in all_) for side, all_ in found.items()}
    rate = 1 / cpu["ours"]
    print(
        f"{kind:10}  ours {rate:8.0f} rows/s a core ({cpu['ours'] * 1e6:6.0f} us; by"
        f" the clock {1 / wall['ours']:8.0f})   tf.data {1 / cpu['tf.data']:8.0f}"
        f" ({1 / wall['tf.data']:8.0f})   ratio {cpu['tf.data'] / cpu['ours']:5.2f}"
        f" ({wall['tf.data'] / wall['ours']:5.2f})   of an H100's need"
        f" {rate / H100_ROWS:6.1f}x",
        flush=True,
    )


def seek(folder):
    """Prints the time from nothing to batch 5,000,000."""
    ours(folder)  # imports are not what is measured
    begin = time.perf_counter()
    read = ours(folder)
    batch = read(5_000_000)
    seconds = time.perf_counter() - begin
    same = all(
        np.array_equal(one, other)
        for one, other in zip(batch, ours(folder)(5_000_000), strict=True)
    )
    print(f"open and seek to batch 5,000,000: {seconds:.3f} s, exact: {same}")


def memory(folder, batches):
    """Child process: prints its own peak memory after some batches."""
    read = ours(folder)
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for t in range(batches):
        read(t)
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    anonymous = int(fields["RssAnon"].split()[0])
    print(json.dumps({"anonymous_kib": anonymous, "opened_kib": begin}))


def main():
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        side, folder, kind, threads = arguments.serve
        serve(side, folder, kind, int(threads))
        return
    if arguments.memory:
        memory(arguments.memory[0], int(arguments.memory[1]))
        return
    with tempfile.TemporaryDirectory() as root:
        for kind, batches in (("light", 40), ("heavy_png", 2), ("heavy_raw", 3)):
            rows = arguments.rows if kind == "light" else arguments.rows // 4
            write_dataset(f"{root}/{kind}", kind, rows, 4)
            compare(f"{root}/{kind}", kind, arguments.rounds, batches)
        seek(f"{root}/light")
        for count in (1, 16, 256):
            folder = f"{root}/shards_{count}"
            write_dataset(folder, "light", arguments.rows, count)
            command = [sys.executable, __file__, "--memory", folder, "100"]
            found = json.loads(subprocess.check_output(command, text=True))
            print(
                f"{count:4} shards: {found['anonymous_kib'] / 1024:.0f} MiB of memory"
            )


if __name__ == "__main__":
    main()
