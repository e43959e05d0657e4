"""The order of batches: pure in (seed, t), the same on any number of hosts, mixed."""

import pathlib
import time
from typing import Any

import numpy as np
import pytest

from gato.model.data import Batches, Order, Prefetcher, pool_sizes, validation_batches
from gato.model.shards import find_datasets
from gato.schemas.errors import GatoError
from gato.schemas.record import decode_row
from gato.schemas.tfrecord import iterate_records


def batches(build, **changes):
    options: dict[str, Any] = {"batch_size": 8, "seed": 0, "groups": 4, "threads": 2}
    return Batches(find_datasets([build]), **options | changes)


@pytest.mark.parametrize("hosts", [2, 4])
def test_global_batches_do_not_depend_on_the_number_of_hosts(build, hosts):
    whole = batches(build)
    # As on a pod whose mesh takes the hosts' devices in turns.
    parts = [batches(build, owned=range(host, 4, hosts)) for host in range(hosts)]
    own = [np.arange(8).reshape(4, 2)[host::hosts].ravel() for host in range(hosts)]
    for t in (0, 1, 7, 100_003):
        expected = whole[t]
        found = [part[t] for part in parts]
        for name in expected._fields[:7]:
            for part, rows in zip(found, own, strict=True):
                np.testing.assert_array_equal(
                    getattr(part, name), getattr(expected, name)[rows]
                )
        pools = [pool for part in found for pool in part.patches_GPC]
        others = [p for host in range(hosts) for p in expected.patches_GPC[host::hosts]]
        for pool, other in zip(pools, others, strict=True):
            length = min(len(pool), len(other))
            np.testing.assert_array_equal(pool[:length], other[:length])
            assert not pool[length:].any()


def test_a_batch_is_a_function_of_seed_and_t(build):
    one, other = batches(build), batches(build)
    later = [one[t] for t in range(4)][3]
    for field, again in zip(later, other[3], strict=True):
        np.testing.assert_array_equal(field, again)
    assert (one.ids(3) != batches(build, seed=1).ids(3)).any()


def test_every_pass_takes_each_row_once_in_another_order():
    order = Order([10], [1.0], ["some"], 0)
    passes = order.ids(0, 30).reshape(3, 10)
    assert (np.sort(passes, axis=1) == np.arange(10)).all()
    assert (passes[0] != passes[1]).any()
    assert (passes[1] != passes[2]).any()


def test_the_mixture_has_the_shares_of_its_weights():
    order = Order([50, 7, 1000], [0.5, 0.3, 0.2], ["a", "b", "c"], 0)
    source = np.searchsorted([50, 57], order.ids(0, 2000), side="right")
    shares = np.bincount(source) / 2000
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.002)
    # Not in turns only over the whole: any hundred hold them too.
    for start in range(0, 2000, 100):
        part = np.bincount(source[start : start + 100], minlength=3) / 100
        np.testing.assert_allclose(part, [0.5, 0.3, 0.2], atol=0.02)


def test_seeking_far_is_quick(build):
    whole = batches(build)
    begin = time.perf_counter()
    batch = whole[5_000_000]
    assert time.perf_counter() - begin < 1
    assert batch.tokens_BL.shape == (8, 64)


def test_pool_sizes_follow_the_expected_share_of_images(build):
    datasets = find_datasets([build])
    # A quarter of the rows holds 12 patches of 64 slots: 3 are expected.
    assert pool_sizes(datasets) == (4, 8, 64)
    assert pool_sizes([one for one in datasets if one.name == "prose"]) == (0,)


def test_validation_reads_the_first_rows_of_each_data_set_and_pads(build):
    datasets = find_datasets([build])
    options = {"batch_size": 4, "groups": 2, "threads": 2}
    found = [batch for batch, _ in validation_batches(datasets, rows=3, **options)]
    sources = np.concatenate([batch.dataset_B for batch in found]).tolist()
    assert sources == [0] * 3 + [1] * 3 + [2] * 3 + [-1] * 3
    assert not found[-1].loss_mask_BL[1:].any()
    everything = validation_batches(datasets, rows=100, **options)
    assert sum((batch.dataset_B >= 0).sum() for batch, _ in everything) == 24


def test_validation_knows_which_slots_are_a_prompts():
    """Those that the provenance of the sample build's rows says."""
    folder = pathlib.Path(__file__).parents[1] / "testdata/sample/build/babyai"
    datasets = find_datasets([str(folder)])
    options = {"batch_size": 5, "groups": 1, "threads": 1}
    found = [marks for _, marks in validation_batches(datasets, rows=100, **options)]
    expected = []
    for path in sorted(folder.glob("validation-*.tfrecord")):
        for _, data in iterate_records(path.read_bytes(), str(path)):
            row = decode_row(data, sequence_length=512, dtype="uint16", place=str(path))
            marks = np.zeros(512, bool)
            for one in row.provenance:
                if one["prompt"]:
                    marks[one["start"] : one["start"] + one["prompt"]["length"]] = True
            expected.append(marks)
    marks = np.concatenate(found)
    np.testing.assert_array_equal(marks[: len(expected)], expected)
    assert 0 < marks.sum() < marks.size
    assert not marks[len(expected) :].any()


def test_prefetching_keeps_order_and_raises_where_the_item_is_taken():
    def make(t):
        if t == 7:
            raise GatoError("item 7 is corrupt")
        return t

    ahead = Prefetcher(make, 5, 10, 2)
    assert [ahead.take()[0] for _ in range(2)] == [5, 6]
    with pytest.raises(GatoError, match="item 7 is corrupt"):
        ahead.take()
    ahead.close()


def test_closing_ends_a_thread_that_waits_for_room():
    ahead = Prefetcher(lambda t: t, 0, 1000, 1)
    ahead.take()
    ahead.close()
    assert not ahead._thread.is_alive()


def test_large_data_sets_are_permuted_too():
    order = Order([70_000], [1.0], ["some"], 0)
    ids = np.concatenate([order.ids(0, 300), order.ids(70_000, 300)]).reshape(2, 300)
    assert all(len(np.unique(part)) == 300 for part in ids)
    assert (ids >= 0).all()
    assert (ids < 70_000).all()
    assert (ids[0] != ids[1]).any()
