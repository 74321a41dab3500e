"""Which parts of two propositions on kernels and noise stability hold, and where?"""
