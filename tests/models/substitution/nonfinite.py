"""Law 4 where an alternative gives no finite output."""

import numpy as np


def only_its_own_output_is_not_finite(fast, variables, tokens, alternatives, mask, changed):
    """Check that one alternative without a finite output leaves the outputs of all others to the bit.

    Perturbations are drawn for all tokens, those that are not measured, too: what they give there may be anything, such
    as the id -1 of a token that has no other to be replaced by.
    """
    real = np.ones(len(tokens), bool) if mask is None else mask
    for place in np.flatnonzero(real)[[0, -1]]:
        broken = np.array(alternatives)
        broken[place] = -1 if broken.dtype.kind == "i" else np.nan
        outputs = np.asarray(fast(variables, tokens, broken, mask)[1])
        assert np.isnan(outputs[place]).any(), place
        others = np.delete(np.flatnonzero(real), np.searchsorted(np.flatnonzero(real), place))
        np.testing.assert_array_equal(outputs[others], np.asarray(changed)[others])
