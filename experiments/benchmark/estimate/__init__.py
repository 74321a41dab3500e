"""What the compilers for an H100 and a TPU v5e make of this library's programs, on a machine that has neither."""
