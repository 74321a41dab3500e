"""What an accelerator does with this library: answers checked, then speeds, beside PyTorch; see ``__main__``."""
