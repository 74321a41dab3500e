"""Are transformers less sensitive than LSTMs after training, and do they generalize better under label noise?"""
