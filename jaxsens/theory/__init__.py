"""Kernels of attention on the cube, and their Walsh-Fourier spectra."""

from jaxsens.theory import walsh

__all__ = ["walsh"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
