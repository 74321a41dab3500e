"""Shared parts of the experiments on images: settings, data, training, labels."""
