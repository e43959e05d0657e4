"""Packaging: the top-level folders import as `gato.<folder>`.

There is no `gato/` folder: a real one would shadow the installed package. Bare
`tokenizers/` would collide with, and on install overwrite, Hugging Face's package.
"""

import pathlib

import setuptools

_FOLDERS = ("model", "pipelines", "schemas", "tokenizers")

# What a Beam worker needs, and no more: neither jax nor tensorflow.
_BASE = [
    "apache-beam[gcp]>=2.77",
    "fsspec>=2025.3",
    "gcsfs>=2025.3",
    "google-crc32c>=1.6",
    "h5py>=3.11",
    "isal>=1.7",
    "kitoken>=0.10",
    "msgspec>=0.19",
    "numpy>=2.0",
    "opencv-python-headless>=4.12",
    "pyarrow>=18",
    "pydantic>=2.10",
    "PyYAML>=6.0",
    "rich>=13.9",
    "sentencepiece>=0.2.1",
    "zstandard>=0.22",
]
_TRAIN = [
    "flax>=0.12",
    "grain>=0.2.14",
    "jax>=0.10",
    "matplotlib>=3.9",
    "optax>=0.2.5",
    "orbax-checkpoint>=0.11.20",
    "tensorboardX>=2.6",
]
# Linux on x86-64 only, 684 MB: the compiler of gato-compile; the pin of jax 0.10.
_COMPILE = [*_TRAIN, "libtpu==0.0.42.*"]
# MP4: LeRobot's cameras, and videos of an agent.
_VIDEO = ["av>=14"]
_RLDS = ["tensorflow-cpu>=2.21", "tensorflow-datasets>=4.9.8"]
# Pins: newer mujoco and dm-control resolve together and then fail at first use.
_ENVS = [
    "ale-py>=0.11",
    "dm-control==1.0.28",
    "gymnasium>=1.1",
    "gymnasium-robotics>=1.4.2",
    "metaworld==3.1.1",
    "minari[hdf5,arrow,create]>=0.5.3",
    "minigrid>=3.0",
    "mujoco==3.3.0",
]
_DEV = [
    "beartype>=0.20",
    "build>=1.2",
    "gcp-storage-emulator>=2024.8",
    "hypothesis>=6.120",
    "jaxtyping>=0.3",
    "psutil>=6",
    "pyright>=1.1.400",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "ruff>=0.11",
    "webdataset>=1.0",
]

setuptools.setup(
    name="gato-pipelines",  # on PyPI, "gato" is another project
    version="0.1.0",
    description=(
        "Raw RL episodes and vision-language corpora to pre-tokenized TFRecord"
        " shards with Apache Beam, and a thin JAX trainer that reads them."
    ),
    long_description=pathlib.Path(__file__)
    .with_name("README.md")
    .read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    install_requires=_BASE,
    extras_require={
        "train": _TRAIN,
        "rlds": _RLDS,
        "envs": _ENVS,
        "video": _VIDEO,
        "compile": _COMPILE,
        "dev": _DEV,
        # Its newer wheels need a newer GLIBC than many machines have.
        "envlogger": [
            "envlogger==1.2; python_version < '3.12'",
            "envlogger>=1.3; python_version >= '3.12'",
        ],
        # Without the compiler, which few need and nobody wants to download unasked, and
        # without EnvLogger, which does not install everywhere.
        "all": [*_TRAIN, *_RLDS, *_ENVS, *_VIDEO, *_DEV],
    },
    packages=[
        f"gato.{name}"
        for name in setuptools.find_packages(
            include=[p for f in _FOLDERS for p in (f, f"{f}.*")]
        )
    ],
    package_dir={f"gato.{folder}": folder for folder in _FOLDERS},
    package_data={
        "": ["py.typed"],
        "gato.pipelines.inspection": ["*.css", "*.js", "*.html"],
    },
    entry_points={
        "console_scripts": [
            "gato-build=gato.pipelines.build:main",
            "gato-compile=gato.model.compile:main",
            "gato-evaluate=gato.model.evaluate:main",
            "gato-export=gato.model.export:main",
            "gato-finetune=gato.model.finetune:main",
            "gato-inspect=gato.pipelines.inspect:main",
            "gato-plan=gato.pipelines.estimate:main",
            "gato-record=gato.pipelines.record:main",
            "gato-train=gato.model.train:main",
            "gato-verify=gato.pipelines.verify:main",
            "gato-vocabulary=gato.pipelines.vocabulary:main",
        ]
    },
)
