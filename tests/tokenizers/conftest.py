"""Hypothesis without deadlines: a busy machine is no failure."""

import hypothesis

hypothesis.settings.register_profile("gato", deadline=None)
hypothesis.settings.load_profile("gato")
