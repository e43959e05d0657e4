"""Readers of raw formats; one file a format (see `base.py`)."""
