"""Rollouts in real environments and their scores (the parts of gato-evaluate)."""
