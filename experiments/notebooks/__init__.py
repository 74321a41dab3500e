"""Notebooks that teach the library, as text."""
