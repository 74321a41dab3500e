"""Rows of a matrix that is too large for one device, held in parts, with the same results on any number of devices.

The columns are cut into parts of equal width, as many for any number of devices (``batches.PARTS``), and a device holds
whole parts. Sums over columns are added up by part in index order, as in ``parallel.sum_over_parts``: they are equal to
the bit on two or more devices. On a single device all columns are one part.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import backends, batches, parallel
from jaxsens.typing import Array

__all__ = ["SplitRows"]


@dataclass(frozen=True)
class SplitRows:
    """How rows ``[m n]`` are laid out, and what is computed with them; for use under jit.

    On several devices a row is filled with zeros to whole parts for each, and a device holds ``ceil(parts / d)`` parts:
    with eight parts an eighth of the rows on eight devices, a quarter on four to seven. Vectors ``[n]`` and ``[m]`` are
    whole on every device.

    Attributes:
        size: The number n of columns.
        devices: Where the rows lie, at most ``batches.PARTS``; none means a single device, that of the arguments.

    Example:
        >>> from jaxsens.execution.execution import DEFAULT
        >>> space = SplitRows(3, backends.lane_devices(DEFAULT))
        >>> rows = jax.jit(lambda row: space.put(space.zeros(2, row.dtype), 1, row))(jnp.array([1.0, 2.0, 3.0]))
        >>> jax.jit(space.times)(rows, jnp.ones(3)).tolist(), rows[1, :3].tolist()
        ([0.0, 6.0], [1.0, 2.0, 3.0])
    """

    size: int
    devices: tuple[jax.Device, ...] = ()

    def zeros(self, count: int, dtype: np.dtype) -> Array:
        """Return ``count`` rows of zeros."""
        return jnp.zeros((count, self._own_size * max(1, len(self.devices))), dtype)

    def put(self, rows: Array, number: Array | int, row: Array) -> Array:
        """Return the rows with ``row [n]`` in the place of one."""

        def local(rows: Array, number: Array, row: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(rows, self._own(row)[None], number, 0)

        return self._run(local, rows, number, row, keep=True)

    def row(self, rows: Array, number: Array | int) -> Array:
        """Return one row ``[n]``, on every device."""
        return self._run(lambda rows, number: self._whole(rows[number]), rows, number)

    def times(self, rows: Array, vector: Array) -> Array:
        """Return the product of the rows with a vector ``[n]``, ``[m]``."""

        def local(rows: Array, vector: Array) -> Array:
            sums = self._gather(self._by_part(jnp.matmul, rows, self._own(vector)))
            return functools.reduce(jnp.add, [sums[i] for i in range(self._parts)])

        return self._run(local, rows, vector)

    def combination(self, coefficients: Array, rows: Array) -> Array:
        """Return ``coefficients [m] @ rows``, ``[n]`` on every device."""
        return self._run(lambda rows, c: self._whole(self._by_part(lambda part: c @ part, rows)), rows, coefficients)

    def combinations(self, coefficients: Array, rows: Array) -> Array:
        """Return the rows ``coefficients [k m] @ rows``."""

        def local(rows: Array, coefficients: Array) -> Array:
            parts = self._by_part(lambda part: coefficients @ part, rows)
            return jnp.moveaxis(parts, 0, 1).reshape(len(coefficients), -1)

        return self._run(local, rows, coefficients, keep=True)

    @property
    def _parts(self) -> int:
        return batches.parts_on(len(self.devices))

    @property
    def _width(self) -> int:
        return -(-self.size // self._parts)

    @property
    def _own_size(self) -> int:
        return -(-self._parts // max(1, len(self.devices))) * self._width

    def _run(self, local: Callable[..., Array], rows: Array, *shared: Array, keep: bool = False) -> Array:
        if self._parts == 1:
            return local(rows, *shared)
        return backends.on_shards(local, self.devices, rows, *shared, axis=1, keep=keep)

    def _own(self, vector: Array) -> Array:
        """Return this device's columns of a vector ``[n]``; for use within ``_run``, as are the next three."""
        if self._parts == 1:
            return vector
        # Without the barrier, XLA fuses what gives the vector, random numbers for instance, with the slices: their size
        # depends on the number of devices, and rounding with it.
        padded = jnp.pad(jax.lax.optimization_barrier(vector), (0, self._own_size * len(self.devices) - self.size))
        start = jax.lax.axis_index(backends.AXIS) * self._own_size
        return jax.lax.dynamic_slice_in_dim(padded, start, self._own_size)

    def _by_part(self, fn: Callable[..., Array], *arrays: Array) -> Array:
        """Return ``fn`` of each part ``[... w]`` of this device's arrays."""
        if self._parts == 1:
            return fn(*arrays)[None]

        def one(number: Array) -> Array:
            start = number * self._width
            return fn(*[jax.lax.dynamic_slice_in_dim(a, start, self._width, a.ndim - 1) for a in arrays])

        return parallel.map_parts(one, self._parts, jnp.arange(self._own_size // self._width))

    def _whole(self, own: Array) -> Array:
        """Return a vector ``[n]`` from the columns of all devices."""
        return self._gather(own).reshape(-1)[: self.size]

    def _gather(self, parts: Array) -> Array:
        return parts if self._parts == 1 else parallel.gather_parts(parts)
