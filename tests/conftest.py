"""Hypothesis for all tests: no deadlines, and in CI the same examples each time."""

import os

import hypothesis

hypothesis.settings.register_profile(
    "gato",
    # A busy machine is no failure.
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
hypothesis.settings.load_profile("gato")
