"""Keyed hashes of stable ids: the only source of randomness in a build.

`h(purpose, ids...)` of design.md section 2: the same on every engine, worker and retry.
"""

import hashlib

_HASH_SPACE = 1 << 64


def keyed_hash(seed: int, purpose: str, *ids: str | int) -> int:
    """Returns the little-endian uint64 of blake2b over purpose and ids.

    Args:
        seed: The build's seed, 0 <= seed < 2**64; the hash key (8 bytes little-endian).
        purpose: What the number decides, such as "prompt" or "split".
        ids: Stable ids, joined to the purpose by NUL as UTF-8; never absolute paths.

    >>> keyed_hash(0, "split", "a") == keyed_hash(0, "split", "a")
    True
    """
    message = "\0".join((purpose, *map(str, ids))).encode()
    digest = hashlib.blake2b(message, digest_size=8, key=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")


def threshold(fraction: float) -> int:
    """Returns t such that `keyed_hash(...) < t` holds for `fraction` of all ids."""
    return int(fraction * _HASH_SPACE)


def fingerprint(*parts: str | bytes) -> str:
    """Returns 32 hex digits of blake2b over the parts, each length-prefixed."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()
