"""Which of two solutions of data with sparse and frequent tokens is learned, and by which models?"""
