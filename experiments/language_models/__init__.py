"""Sensitivity of a modern language model: which next-token predictions change with which token."""
