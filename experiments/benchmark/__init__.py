"""The speed of jaxsens on this machine, beside PyTorch and beside the published procedures."""
