"""Rows of finished shards, drawn in a terminal."""
