"""Is sensitivity a progress measure of grokking, and does a penalty on noise stability hasten it?"""
