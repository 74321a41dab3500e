"""How far do recognizers move when a bit is flipped, and how many strings have no bit that matters? Measured geometry."""
