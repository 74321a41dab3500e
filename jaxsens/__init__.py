"""Sensitivity of neural networks to one token of the input, and to the weights."""
