"""The architecture of transformer recognizers of bit strings, and the shapes of their parameters."""

import dataclasses

from jaxsens.models.common import require, require_choice, require_flags, require_number, require_positive
from jaxsens.models.recognizers.initialization import Spec
from jaxsens.typing import PyTree

__all__ = ["BLOCKS", "Config"]

BLOCKS = ("standard", "paper")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The architecture of a recognizer. Configurations of equal values are equal, and hash equal.

    Fields for which F.1 gives no value have the default of the original Transformer.

    Attributes:
        block: ``"standard"``, the encoder block of F.1: heads are concatenated to ``width`` and projected; attention
            and MLP each have a residual and a normalization with gain and offset. ``"paper"``, that of s.2.2: every
            head maps ``width`` to ``width``, heads are summed, ``d = y + mlp(sum of heads)`` has the only residual,
            and one normalization without gain and offset follows it (Eqs. 8 to 13).
        depth: Number of layers; with ``at_depth``, the largest number that the variables can hold.
        heads: Number of attention heads.
        head_size: Length of a query; in the block of the paper the width D.
        multiplier: Hidden units of the MLP, divided by the width; 1 in the paper's s.2.2.
        epsilon: Added to the variance in layer normalization. With 0, a row of zero variance is mapped to 0.
        norm_first: Normalize before attention and MLP in place of after, and once more at the end (standard block).
        scaled: Divide scores by ``sqrt(head_size)``; by default in the standard block, not in the paper's (Eq. 8a).

    Raises:
        ValueError: If a field is out of range.

    Example:
        >>> Config(depth=2, heads=4, head_size=16).width
        64
    """

    block: str = "standard"
    depth: int
    heads: int
    head_size: int
    multiplier: int = 4
    epsilon: float = 1e-5
    norm_first: bool = False
    scaled: bool | None = None

    def __post_init__(self) -> None:
        require_choice("block", self.block, BLOCKS)
        require_positive(depth=self.depth, heads=self.heads, head_size=self.head_size, multiplier=self.multiplier)
        require_number("epsilon", self.epsilon, lambda epsilon: epsilon >= 0, "a finite number of at least 0")
        require_flags(norm_first=self.norm_first, **({} if self.scaled is None else {"scaled": self.scaled}))
        require(self.standard or not self.norm_first, "norm_first", self.norm_first, "False in the block of the paper")
        if self.scaled is None:
            object.__setattr__(self, "scaled", self.standard)

    @property
    def standard(self) -> bool:
        """Whether the block is the standard one."""
        return self.block == "standard"

    @property
    def width(self) -> int:
        """Length of the vector of a token, D."""
        return self.heads * self.head_size if self.standard else self.head_size

    @property
    def specs(self) -> PyTree:
        """The shapes of the parameters: ``embedding [3 d]``, ``layers`` (stacked ``[l ...]``) and ``readout``."""
        d, h, k, f = self.width, self.heads, self.head_size, self.multiplier * self.width
        project = Spec((d, h, k), fans=(d, h * k if self.standard else k))
        gain, offset = Spec((d,), "gain"), Spec((d,), "offset")
        layer = {
            "query": project,
            "key": project,
            "value": project,
            "expand": Spec((d, f), fans=(d, f)),
            "expand_bias": Spec((f,), "bias"),
            "contract": Spec((f, d), fans=(f, d)),
            "contract_bias": Spec((d,), "bias"),
        }
        if self.standard:
            layer |= {name: Spec((h, k), "bias") for name in ("query_bias", "key_bias", "value_bias")}
            layer |= {"out": Spec((h, k, d), fans=(h * k, d)), "out_bias": Spec((d,), "bias")}
            layer |= {"attention_gain": gain, "attention_offset": offset, "mlp_gain": gain, "mlp_offset": offset}
        readout = {"weight": Spec((d,), fans=(d, 1)), "bias": Spec((), "bias")}
        if self.norm_first:
            readout |= {"gain": gain, "offset": offset}
        stacked = {name: dataclasses.replace(spec, shape=(self.depth, *spec.shape)) for name, spec in layer.items()}
        return {"embedding": Spec((3, d), "embedding", fans=(3, d)), "layers": stacked, "readout": readout}
