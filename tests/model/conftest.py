"""JAX for tests: 8 virtual CPU devices, quick compilation, strict shapes.

The flags are read when JAX first makes its CPU client, so they are set on import,
before any test runs. Optimisation is off and compiled programs are cached between
tests: here compiling, not computing, takes the time.
"""

import os

os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    )
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
import toy_shards


@pytest.fixture(autouse=True, scope="session")
def _compilation_cache(tmp_path_factory):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(autouse=True)
def _strict_shapes():
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """A folder with three data sets, and the glob of their training shards."""
    return toy_shards.write_build(str(tmp_path_factory.mktemp("build")))


@pytest.fixture(scope="session")
def training_cache(tmp_path_factory):
    """Where processes of `training.Training` keep bytecode and compiled programs."""
    return tmp_path_factory.mktemp("training_cache")
