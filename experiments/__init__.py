"""Experiments: one main per group of figures."""
