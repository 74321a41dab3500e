"""How much does a bit move a recognizer, how does that fall with length, how many strings have sensitivity 0?"""
