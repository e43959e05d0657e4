"""Rows of finished shards, drawn in a terminal or on a page."""
