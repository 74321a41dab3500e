import numpy as np
import pytest

from jaxsens.boolean import certificates, truth_tables

SEARCHES = [certificates.block_sensitivity, certificates.certificate_complexity]


def test_blocks_beyond_single_bits():
    """Rows of two pairs; accepted if some row has one full pair and nothing else (after Rubinstein 1995)."""
    rows = (np.arange(2**12)[:, None] >> np.arange(12)[::-1][None] & 1).reshape(-1, 3, 2, 2)
    table = ((rows.sum((2, 3)) == 2) & (rows.sum(3) == 2).any(2)).any(1)
    flips = [table != table[np.arange(2**12) ^ 2**i] for i in range(12)]
    assert np.sum(flips, 0).max() == 4
    assert certificates.block_sensitivity(table) == 6  # at the string of zeros, each of the six pairs
    assert certificates.certificate_complexity(table) == 6


def test_searches_against_brute_force():
    table = np.random.default_rng(3).integers(0, 2, 32).astype(bool)
    index = np.arange(32)

    def most_blocks(x, free):
        blocks = [block for block in range(1, 32) if block & free == block and table[x ^ block] != table[x]]
        return max((1 + most_blocks(x, free & ~block) for block in blocks), default=0)

    def certificate(x):
        return min(int(s).bit_count() for s in range(32) if len({bool(v) for v in table[(index & s) == (x & s)]}) == 1)

    assert certificates.block_sensitivity(table) == max(most_blocks(x, 31) for x in range(32))
    assert certificates.certificate_complexity(table) == max(certificate(x) for x in range(32))


def test_a_constant_needs_nothing():
    for fn in SEARCHES:
        assert fn(np.ones(32, bool)) == 0


@pytest.mark.parametrize("fn", SEARCHES)
def test_the_cube_offers_the_searches(fn):
    assert getattr(truth_tables, fn.__name__) is fn


@pytest.mark.parametrize("fn", SEARCHES)
def test_what_cannot_be_searched_is_refused(fn):
    with pytest.raises(ValueError, match=f"{fn.__name__} searches at most 12 variables, got n = 13"):
        fn(np.zeros(2**13, bool))
    with pytest.raises(ValueError, match=r"2\*\*n.*\(6,\)"):
        fn(np.zeros(6, bool))
