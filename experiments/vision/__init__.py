"""How sensitive are a transformer, an MLP and convolutional networks to one patch of an image, and to their weights?"""
