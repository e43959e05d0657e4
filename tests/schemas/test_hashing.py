"""Keyed hashes: the contract's formula, and that fractions come out."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gato.schemas.hashing import fingerprint, keyed_hash, threshold

# Written once; a change would move every split, prompt and shard.
EXPECTED = (17873973444324970497, 8661223204397501688)


def test_the_formula_of_the_design() -> None:
    digest = hashlib.blake2b(
        b"prompt\0babyai/goto-v0/17\x003",
        digest_size=8,
        key=(7).to_bytes(8, "little"),
    ).digest()
    expected = int.from_bytes(digest, "little")
    assert keyed_hash(7, "prompt", "babyai/goto-v0/17", 3) == expected


def test_values_do_not_change_between_releases() -> None:
    assert keyed_hash(0, "split", "a") == EXPECTED[0]
    assert keyed_hash(2**64 - 1, "shard", "é", 12) == EXPECTED[1]


@given(st.integers(0, 2**64 - 1), st.text(max_size=5), st.integers(0, 1000))
def test_seed_purpose_and_ids_all_count(seed: int, item: str, number: int) -> None:
    value = keyed_hash(seed, "prompt", item, number)
    assert 0 <= value < 2**64
    assert value != keyed_hash(seed ^ 1, "prompt", item, number)
    assert value != keyed_hash(seed, "split", item, number)
    assert value != keyed_hash(seed, "prompt", item, number + 1)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.25, 1.0])
def test_a_fraction_is_chosen(fraction: float) -> None:
    chosen = sum(keyed_hash(0, "p", n) < threshold(fraction) for n in range(4000))
    # Four standard deviations; none and all exactly at the ends.
    spread = 4 * (4000 * fraction * (1 - fraction)) ** 0.5
    assert abs(chosen - 4000 * fraction) <= spread
    assert threshold(1.0) == 2**64


def test_fingerprints_keep_parts_apart() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("a", "") != fingerprint("a")
    assert fingerprint("é") == fingerprint("é".encode())
    assert len(fingerprint()) == 32
