"""Regions of activations: whole images, or windows around a change, for one description of a network.

A convolutional network is written once, for any *region*. For whole images (``Whole``), a layer reads its input, with
zeros around it. For windows (``Windows``), it reads the window, put into the activations of the clean image, which an
evaluation before has kept (``Clean``). A module writes

    after = region.after(field)                       # the region of the outputs
    x, padding = region.read(x, field, after, name)   # what they read, and the zeros that are still to be added

and is the same for all three. Only operations on neighboring pixels need the region; all others, such as a
normalization or a product with every pixel, are applied to ``x`` directly.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["NO_PADDING", "WHOLE", "Axis", "Clean", "Kept", "Padding", "ReceptiveField", "Region", "Whole", "Windows"]

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros to be added before and after, down and across."""

NO_PADDING: Padding = ((0, 0), (0, 0))


class ReceptiveField(NamedTuple):
    """The pixels that output ``o`` of a layer reads along an axis: ``kernel`` of them, from ``stride o - before`` on.

    Attributes:
        kernel: The number of pixels.
        stride: Pixels from one output to the next.
        before: Zeros before the first pixel.
        behind: Zeros behind the last.

    Example:
        >>> ReceptiveField.centered(3)
        ReceptiveField(kernel=3, stride=1, before=1, behind=1)
    """

    kernel: int = 1
    stride: int = 1
    before: int = 0
    behind: int = 0

    @classmethod
    def centered(cls, kernel: int, stride: int = 1) -> "ReceptiveField":
        """Return the field of a convolution with zeros around the image: as many outputs as pixels, over the stride."""
        return cls(kernel, stride, (kernel - 1) // 2, kernel // 2)

    @property
    def padding(self) -> Padding:
        """The zeros around an image."""
        return ((self.before, self.behind),) * 2

    def center(self, x: jax.Array, padding: Padding) -> jax.Array:
        """Return the pixels in the region of the outputs, of those that were read, where the stride is 1."""
        if padding != NO_PADDING:
            return x
        return x[:, self.before : x.shape[1] - self.behind, self.before : x.shape[2] - self.behind]


@dataclasses.dataclass(frozen=True)
class Whole:
    """Activations of whole images ``[b h w c]``.

    Example:
        >>> isinstance(WHOLE.after(ReceptiveField.centered(3)), Whole)
        True
    """

    def after(self, field: ReceptiveField) -> "Whole":  # noqa: ARG002
        """Return the region of the outputs."""
        return self

    def read(self, x: jax.Array, field: ReceptiveField, after: "Whole", name: str) -> tuple[jax.Array, Padding]:  # noqa: ARG002
        """Return what the outputs at ``after`` read, and the zeros that are still to be added.

        ``name`` identifies the layer: the same in every evaluation of a network, and another for every activation.
        """
        return x, field.padding

    def whole(self, x: jax.Array, name: str) -> jax.Array:  # noqa: ARG002
        """Return whole images ``[b h w c]``."""
        return x


@dataclasses.dataclass(frozen=True)
class Axis:
    """The pixels that changes alter along one axis of an image, for each position of the changed patch.

    Attributes:
        first: First pixel that a change alters, by position.
        last: Last pixel.
        extent: Pixels of the image.
        members: Positions that are evaluated together, by windows of one size.

    Example:
        >>> axis = Axis.of_patches(count=3, patch=2)
        >>> axis.extent, axis.lengths.tolist(), axis.after(ReceptiveField.centered(3)).lengths.tolist()
        (6, [2, 2, 2], [3, 4, 3])
    """

    first: np.ndarray
    last: np.ndarray
    extent: int
    members: tuple[int, ...]

    @classmethod
    def of_patches(cls, count: int, patch: int) -> "Axis":
        """Return the axis for the pixels of each of ``count`` patches in a row."""
        first = np.arange(count) * patch
        return cls(first, first + patch - 1, count * patch, tuple(range(count)))

    def after(self, field: ReceptiveField) -> "Axis":
        """Return the pixels that changes alter in the outputs of a layer."""
        extent = (self.extent + field.before + field.behind - field.kernel) // field.stride + 1
        first = -((field.kernel - 1 - field.before - self.first) // field.stride)
        last = (self.last + field.before) // field.stride
        first = first.clip(0, extent - 1)
        # A change that no output reads still needs a window, of a pixel that does not change.
        return Axis(first, last.clip(first, extent - 1), extent, self.members)

    @property
    def lengths(self) -> np.ndarray:
        """Pixels that a change alters, by position."""
        return self.last - self.first + 1

    @property
    def size(self) -> int:
        """Side of the windows, the same for all members."""
        return int(self.lengths[list(self.members)].max())

    @property
    def covers(self) -> bool:
        """Whether the windows are the whole image."""
        return self.size == self.extent

    @property
    def whole(self) -> "Axis":
        """The same positions, with the whole image for a window."""
        return dataclasses.replace(self, first=0 * self.first, last=0 * self.last + self.extent - 1)

    @property
    def start(self) -> np.ndarray:
        """First pixel of the window, by position; windows lie within the image."""
        return np.minimum(self.first, self.extent - self.size)

    def read(self, field: ReceptiveField, after: "Axis") -> tuple[np.ndarray, np.ndarray]:
        """Return which pixels windows at ``after`` read ``[positions, n]``: in the image, and in the window here.

        The first are counted from the first zero before the image; the second are out of range beside the window.
        """
        pixels = after.start[:, None] * field.stride + np.arange((after.size - 1) * field.stride + field.kernel)
        return pixels, pixels - field.before - self.start[:, None]


class Kept(NamedTuple):
    """The clean activations that a layer reads, with zeros around, and the pixels that changes alter.

    Example:
        >>> axis = Axis.of_patches(count=2, patch=2)
        >>> Kept(np.zeros((1, 6, 6, 1)), axis, axis).x.shape
        (1, 6, 6, 1)
    """

    x: jax.Array
    rows: Axis
    columns: Axis


@dataclasses.dataclass(frozen=True)
class Clean(Whole):
    """The activations of one whole image, which are kept under the names of the layers that read them.

    Example:
        >>> axis = Axis.of_patches(count=3, patch=2)
        >>> Clean(axis, axis, {}).after(ReceptiveField.centered(3)).rows.lengths.tolist()
        [3, 4, 3]
    """

    rows: Axis
    columns: Axis
    kept: dict[str, Kept]

    def after(self, field: ReceptiveField) -> "Clean":
        """Return the region of the outputs."""
        return dataclasses.replace(self, rows=self.rows.after(field), columns=self.columns.after(field))

    def read(self, x: jax.Array, field: ReceptiveField, after: Whole, name: str) -> tuple[jax.Array, Padding]:
        """Keep ``x [1 h w c]``, and return it unchanged."""
        self.kept[name] = Kept(jnp.pad(x[0], (*field.padding, (0, 0))), self.rows, self.columns)
        return super().read(x, field, after, name)

    def whole(self, x: jax.Array, name: str) -> jax.Array:
        """Keep ``x [1 h w c]``, and return it unchanged."""
        return self.read(x, ReceptiveField(), self, name)[0]


@dataclasses.dataclass(frozen=True)
class Windows:
    """Activations of windows ``[r m n c]`` of images, each of which differs from the clean one in one window only.

    Attributes:
        rows: The positions of the windows, down.
        columns: Their positions, across.
        positions: Row and column of the changed patch in the grid of patches, one of each for each window ``[r]``.
        kept: Clean activations by name.

    Example:
        >>> axis = Axis.of_patches(count=3, patch=2)
        >>> windows = Windows(axis, axis, (jnp.array([0]), jnp.array([1])), {})
        >>> windows.after(ReceptiveField.centered(3)).rows.lengths.tolist()
        [3, 4, 3]
    """

    rows: Axis
    columns: Axis
    positions: tuple[jax.Array, jax.Array]
    kept: dict[str, Kept]

    def after(self, field: ReceptiveField) -> "Windows":
        """Return the region of the outputs."""
        return dataclasses.replace(self, rows=self.rows.after(field), columns=self.columns.after(field))

    def read(self, x: jax.Array, field: ReceptiveField, after: "Windows", name: str) -> tuple[jax.Array, Padding]:
        """Return what the outputs at ``after`` read: ``x [r m n c]`` laid over the clean activations around it."""
        axes = ((self.rows, after.rows), (self.columns, after.columns))
        if all(here.covers and there.covers for here, there in axes):
            return x, field.padding
        clean = self.kept[name].x
        (down, window_down), (across, window_across) = (
            [jnp.asarray(table)[position] for table in here.read(field, there)]
            for (here, there), position in zip(axes, self.positions, strict=True)
        )
        height, width = x.shape[1:3]
        inside = ((window_down >= 0) & (window_down < height))[:, :, None] & (
            (window_across >= 0) & (window_across < width)
        )[:, None]
        window_index = window_down.clip(0, height - 1)[:, :, None] * width + window_across.clip(0, width - 1)[:, None]
        clean_index = down[:, :, None] * clean.shape[1] + across[:, None]

        def lay(window: jax.Array, window_index: jax.Array, clean_index: jax.Array, inside: jax.Array) -> jax.Array:
            return jnp.where(inside[..., None], _pixels(window, window_index), _pixels(clean, clean_index))

        def in_turn(*windows: jax.Array) -> jax.Array:
            return jax.lax.map(lambda one: lay(*one), windows)

        # A loop is the fastest on a CPU, and a launch for each window on an accelerator. Behind a barrier, since XLA
        # would repeat it for each of a kernel's shifted copies.
        laid = jax.lax.platform_dependent(x, window_index, clean_index, inside, cpu=in_turn, default=jax.vmap(lay))
        return jax.lax.optimization_barrier(laid), NO_PADDING

    def whole(self, x: jax.Array, name: str) -> jax.Array:
        """Return whole images ``[r h w c]``."""
        image = dataclasses.replace(self, rows=self.rows.whole, columns=self.columns.whole)
        return self.read(x, ReceptiveField(), image, name)[0]


def _pixels(x: jax.Array, index: jax.Array) -> jax.Array:
    """Return pixels of ``x [... c]`` by their number: on a CPU several times as fast as a gather of windows."""
    return x.reshape(-1, x.shape[-1]).at[index].get(mode="promise_in_bounds")


Region = Whole | Windows
"""A region of activations."""

WHOLE = Whole()
"""The region of a plain evaluation."""


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
