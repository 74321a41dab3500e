"""Which tokens can be replaced by their nearest neighbour with the least effect, and how does the effect spread?"""
