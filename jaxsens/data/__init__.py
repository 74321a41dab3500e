"""Data sets: the only files that import tensorflow_datasets, and only when a data set is asked for."""

__all__: list[str] = []
