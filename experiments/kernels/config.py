"""Settings of ``experiments.kernels``."""

from dataclasses import dataclass

from experiments.harness import Keys, Settings, option
from jaxsens.theory.attention_kernels import READ_OUTS
from jaxsens.theory.finite_width import SCORES

KEYS = Keys("networks", "functions")


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the experiment: sizes of the cubes, random networks and random functions."""

    seed: int = option(0, "random seed for networks and functions")
    bits: tuple[int, ...] = option(
        (1, 2, 3, 4, 5, 6, 7, 8), "bits of the cubes of exact kernels", at_least=1, rising=True, fewest=1
    )
    finite_bits: int = option(6, "bits of the cube of networks of finite width", at_least=2)
    finite_tokens: int = option(3, "tokens of the cube of networks of finite width", at_least=1)
    finite_scores: tuple[str, ...] = option(
        SCORES, "scores of networks of finite width", choices=SCORES, fewest=1, distinct=True
    )
    finite_read_outs: tuple[str, ...] = option(
        READ_OUTS, "read-outs of networks of finite width", choices=READ_OUTS, fewest=1, distinct=True
    )
    widths: tuple[int, ...] = option((4, 16, 64, 256), "widths of the keys", at_least=1, rising=True, fewest=1)
    networks: int = option(4_000, "random networks of each width", at_least=40)
    exhaustive: int = option(4, "largest number of bits of which all functions are tried", at_least=1, below=5)
    sampled_bits: tuple[int, ...] = option(
        (5, 6, 8, 10, 12), "bits of random functions", at_least=1, rising=True, fewest=1
    )
    functions: int = option(1_000, "random functions of each number of bits", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.bits) > 12 or max(self.sampled_bits) > 12:
            raise ValueError(f"bits and sampled_bits must be at most 12, got {self.bits} and {self.sampled_bits}")
        if self.finite_bits % self.finite_tokens:
            raise ValueError(f"finite_tokens must divide the {self.finite_bits} bits, got {self.finite_tokens}")

    @property
    def cubes(self) -> list[tuple[int, int]]:
        """Bits and tokens of every cube, with all numbers of tokens that divide the bits."""
        return [(bits, tokens) for bits in self.bits for tokens in range(1, bits + 1) if bits % tokens == 0]


PRESETS = {
    "laptop": Config(bits=(1, 2, 3, 4, 5, 6, 8), widths=(4, 16, 64), networks=1_000, sampled_bits=(5, 6, 8, 10)),
    "smoke": Config(
        bits=(2, 4), finite_bits=4, finite_tokens=2, finite_scores=("softmax",),
        finite_read_outs=("all",), widths=(4,), networks=40, exhaustive=2, sampled_bits=(3,),
        functions=80,
    ),
    "paper": Config(),
}  # fmt: skip
