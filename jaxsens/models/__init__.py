"""Neural networks in Linen: the only files that import flax."""
