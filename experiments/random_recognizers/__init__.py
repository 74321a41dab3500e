"""How sensitive are the Boolean functions that randomly initialized transformers compute?"""
