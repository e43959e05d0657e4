"""Beam jobs and commands that turn raw data into verified TFRecord shards."""
