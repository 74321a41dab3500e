"""Kernels of attention on the cube and their Walsh-Fourier spectra; Fourier analysis of addition modulo p."""

from jaxsens.theory import cyclic, walsh
from jaxsens.theory.attention_kernels import conjugate_kernel, cube_tokens, tangent_kernel
from jaxsens.theory.finite_width import FiniteWidthKernel, finite_width_kernel
from jaxsens.theory.structure import Counterexample, KernelStructure, counterexample, structure

__all__ = [
    "Counterexample",
    "FiniteWidthKernel",
    "KernelStructure",
    "conjugate_kernel",
    "counterexample",
    "cube_tokens",
    "cyclic",
    "finite_width_kernel",
    "structure",
    "tangent_kernel",
    "walsh",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
