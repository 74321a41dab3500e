"""Are functions that depend on every bit learned only at sharp minima, and are these sharper for longer strings?"""
