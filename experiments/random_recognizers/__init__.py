"""How sensitive are the Boolean functions that randomly initialised transformers compute?"""
