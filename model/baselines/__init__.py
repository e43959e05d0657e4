"""Policies to compare with: a random one, and filtered behaviour cloning."""
