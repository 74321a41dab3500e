"""The speed of jaxsens on this machine, compared with PyTorch and with the published procedures."""
