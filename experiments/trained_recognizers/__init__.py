"""Which languages do transformers learn, and what does training do to their sensitivity?"""
