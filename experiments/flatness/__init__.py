"""Do networks of low token sensitivity lie at flat minima?"""
