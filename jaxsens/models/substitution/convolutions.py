"""All single-patch substitutions of an image through a convolutional network, exactly, for less work.

A changed patch reaches only its receptive field, which grows from layer to layer by the kernel. The activations of the
clean image are computed once; for each patch every layer is evaluated on the window that the change reaches, laid over
the clean activations around it, until the window is the whole image. Nothing is approximated: outside the window both
images have the same activations. Normalization uses running statistics, as in evaluation mode, and is therefore local,
but for the global response normalization of ConvNeXt V2, where its windows end (``models.images.convnext``).

Windows are smaller at the borders of the image than in its middle, and programs have fixed sizes. So the rows of
patches fall into a few groups with windows of one size each, and the columns; a program is compiled for each pair.

``operations`` counts: for images of 32 x 32 pixels in patches of 4 the ratio, plain over windows, is 5.69 for the
paper's CNN, 1.72 for its ConvMixer (1.85 in three groups), 1.67 for ResNet-18 and 1.34 for DenseNet-121 (1.39 in as
many groups as sizes), in which a patch reaches the whole image within the first or second of four blocks. One CPU core
gave 2.7 for the CNN (all of a group at once), 1.5 for the ConvMixer (1.6; blocks of 4) and 1.42 for ResNet-18 (blocks
of 16), where blocks of 13 were best for the plain way. The CNN's windows are so cheap that its thin convolutions, dense
layer and copies dominate. With JAX 0.10 blocks of 1 are slow, since XLA then repeats the copies of clean activations.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.data.patches import from_patches
from jaxsens.execution import flops
from jaxsens.models import common
from jaxsens.models.common import require
from jaxsens.models.images.convolution import ConvolutionalNetwork
from jaxsens.models.images.windows import Axis, Clean, Kept, Windows
from jaxsens.substitution import chosen_sites, one_at_a_time, require_matching
from jaxsens.typing import Array, PyTree, SubstituteAt

__all__ = ["OnWindows", "operations", "substitute"]


def substitute(module: nn.Module, rows: int | None = None, *, groups: int | None = 2) -> SubstituteAt:
    """Make the primitive for a convolutional network, equal to ``one_at_a_time(evaluation(module))`` up to rounding.

    Args:
        module: A ``CNN``, ``ConvMixer``, ``ConvNeXt``, ``ResNet`` or ``DenseNet`` of ``models.images``.
        rows: Substitutions evaluated at once; ``None`` for all whose windows are of one size.
        groups: Groups of rows of patches, and of columns, whose windows have one size each. More save operations
            and take longer to compile, by the square; ``None`` for as many as there are sizes.

    Returns:
        ``substitute(variables, tokens [t d], alternatives [t d], mask [t] = None) -> (clean [*k], changed [t *k])``.
        Padding counts as zero pixels, and so does its alternative. With ``sites [n]``, a fifth argument, only those are
        substituted, ``changed [n *k]``, in windows of the largest size, since their positions are data.
        Equal arguments give equal functions, which share compiled code.

    Raises:
        ValueError: If ``rows`` or ``groups`` is no integer of at least 1, or the module is of no such family; when
            called, if tokens, alternatives, mask, sites or variables do not fit.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("cnn", "small", image_shape=(4, 4, 1), classes=3, patch=2)
        >>> tokens = np.zeros((4, 4), np.float32)
        >>> clean, changed = jax.jit(substitute(module))(models.init(module, jax.random.key(0)), tokens, tokens + 1)
        >>> clean.shape, changed.shape
        ((3,), (4, 3))
    """
    common.require_rows(rows)
    if groups is not None:
        try:
            common.require_positive(groups=groups)
        except ValueError as error:
            raise ValueError(f"groups must be at least 1, or None for one for each size, got {groups!r}") from error
    require(
        isinstance(module, ConvolutionalNetwork),
        "module",
        type(module).__name__,
        "a convolutional network of this library",
    )
    return OnWindows(module, rows, groups)


@dataclasses.dataclass(frozen=True)
class OnWindows:
    """The substitution that ``substitute`` returns.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("cnn", "small", image_shape=(4, 4, 1), classes=3, patch=2)
        >>> substitute(module, rows=2) == OnWindows(module, rows=2)
        True
    """

    module: nn.Module
    rows: int | None = None
    groups: int | None = 2

    def __call__(
        self,
        variables: PyTree,
        tokens: Array,
        alternatives: Array,
        mask: Array | None = None,
        sites: Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Return the clean output and, for every token or site, the output with only that token replaced."""
        require_matching(tokens, alternatives)
        common.require_variables(self.module, variables, jnp.asarray(tokens)[None])
        config = self.module.config
        both = None if mask is None else jnp.broadcast_to(mask, (2, *mask.shape))
        tokens, alternatives = common.read_tokens(config, jnp.stack([tokens, alternatives]), both)
        down, across = (Axis.of_patches(count, config.patch) for count in config.grid)
        kept: dict[str, Kept] = {}
        from_pixels = functools.partial(self.module.apply, variables, method="from_pixels")
        clean = from_pixels(from_patches(tokens[None], config.patch, config.image_shape), Clean(down, across, kept))
        patches = alternatives.reshape(len(tokens), config.patch, config.patch, config.image_shape[2])

        def outputs(sites: jax.Array, rows: Axis, columns: Axis) -> jax.Array:
            """Evaluate the substitutions at sites ``[r]``, whose windows are of one size."""
            positions = jnp.divmod(sites, config.grid[1])
            return from_pixels(patches[sites], Windows(rows, columns, positions, kept))

        if sites is not None:
            sites = chosen_sites(sites, len(tokens))
            return clean[0], _in_blocks(functools.partial(outputs, rows=down, columns=across), sites, self.rows)
        changed, order = [], []
        groups = (
            _groups([getattr(layer, axis) for layer in kept.values()], self.groups) for axis in ("rows", "columns")
        )
        for lines in itertools.product(*groups):
            rows, columns = (
                dataclasses.replace(axis, members=members) for axis, members in zip((down, across), lines, strict=True)
            )
            members = [row * config.grid[1] + column for row, column in itertools.product(*lines)]
            one_size = functools.partial(outputs, rows=rows, columns=columns)
            changed.append(_in_blocks(one_size, jnp.asarray(members), self.rows))
            order += members
        return clean[0], jnp.concatenate(changed)[np.argsort(order)]


def operations(module: nn.Module, groups: int | None = 2, sites: int | None = None) -> tuple[int, int]:
    """Return the floating-point operations of an image and its substitutions: evaluated plainly, and on windows.

    Multiplications and additions of convolutions and matrix products, counted in the programs themselves;
    normalizations, pooling and the shifted adds of depthwise convolutions, of lower order, are left out.

    Args:
        module: As ``substitute`` takes it.
        groups: As ``substitute`` takes it; ``None`` for the fewest operations.
        sites: The number of patches that are substituted, by default all.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("cnn", "small", image_shape=(8, 8, 1), classes=3, patch=2)
        >>> plain, shared = operations(module)
        >>> plain > shared
        True
    """
    config = module.config
    tokens = jax.ShapeDtypeStruct(config.token_shape, config.dtype)
    variables = jax.eval_shape(lambda: common.init(module, jax.random.key(0)))
    few = () if sites is None else (None, jax.ShapeDtypeStruct((sites,), np.int32))
    plain, shared = (
        round(flops.count(make, variables, tokens, tokens, *few).operations)
        for make in (one_at_a_time(common.evaluation(module)), substitute(module, groups=groups))
    )
    return plain, shared


def _groups(layers: list[Axis], count: int | None) -> list[tuple[int, ...]]:
    """Part positions along an axis into groups with windows of one size, for the least work.

    Every layer is taken to cost the same for the whole image, as those of these networks do, and the other axis to be
    grouped likewise: the work is the sum over layers of the square of the windows' sizes, added over positions.
    """
    lengths = np.stack([axis.lengths / axis.extent for axis in layers])  # [l, positions]
    order = np.lexsort((*lengths, lengths.sum(0)))  # by the sum, and equal ones side by side
    lengths = lengths[:, order]
    changes = 1 + np.flatnonzero((np.diff(lengths) != 0).any(0))

    def work(cuts: tuple[int, ...]) -> float:
        groups = np.split(lengths, cuts, axis=1)
        return (sum(group.shape[1] * group.max(1) for group in groups) ** 2).sum()

    cuts = min(itertools.combinations(changes, min(len(changes), (count or len(order)) - 1)), key=work)
    return [tuple(sorted(group.tolist())) for group in np.split(order, cuts)]


def _in_blocks(outputs: Callable[[jax.Array], jax.Array], sites: jax.Array, rows: int | None) -> jax.Array:
    """Return the outputs at sites, at most ``rows`` of them at once, in blocks that are as equal as can be."""
    blocks = -(-len(sites) // min(rows or len(sites), len(sites)))
    size = -(-len(sites) // blocks)
    filled = sites[np.resize(np.arange(len(sites)), (blocks, size))]
    if blocks == 1:
        return outputs(filled[0])
    results = jax.lax.map(outputs, filled)
    return results.reshape(-1, *results.shape[2:])[: len(sites)]
