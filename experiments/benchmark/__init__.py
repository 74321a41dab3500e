"""How fast jaxsens is on this machine, beside PyTorch and beside the procedures as they were published."""
