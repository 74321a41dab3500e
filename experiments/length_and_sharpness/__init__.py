"""Are functions that hang on every bit learned only at sharp minima, the sharper the longer the strings?"""
