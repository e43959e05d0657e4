"""The laws of a finished build, each a pure function over rows or accounts."""
