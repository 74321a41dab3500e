"""Does training leave transformers with less sensitive functions than LSTMs, and do they resist label noise for it?"""
