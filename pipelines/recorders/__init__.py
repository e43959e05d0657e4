"""Recorders: raw data made on this machine, in the formats the sources read."""
