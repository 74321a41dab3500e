"""Are less sensitive classifiers of images more robust to corruptions of them?"""
