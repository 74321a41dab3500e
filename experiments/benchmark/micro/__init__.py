"""Benchmarks that answer one question each: ``python -m experiments.benchmark.micro.NAME --help``."""
