"""Checks of results and speeds on an accelerator, compared with PyTorch; see ``__main__``."""
