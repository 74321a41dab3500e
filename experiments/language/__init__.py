"""Sentence classifiers trained from scratch: is a transformer less sensitive to one token than an LSTM?"""
