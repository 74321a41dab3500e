"""Which tokens can be replaced by their nearest neighbor with the least effect, and how does the effect spread?"""
