"""Names of models, constructions and lengths as people read them."""

CONSTRUCTIONS = {
    "first": "First",
    "majority": "Majority",
    "parity": "Parity",
    "first-growing": "First, unbounded positions",
}


def shape(depth: int, width: int) -> str:
    """Name an architecture, such as ``2 layers, width 8``."""
    return f"{depth} layer{'s' if depth > 1 else ''}, width {width}"


def encoding(name: str, epsilon: float) -> str:
    """Name position encodings and the epsilon of normalization."""
    return f"{'no' if name == 'none' else name} positions, epsilon = {epsilon:g}"


def parameters(half_width: float) -> str:
    """Name a parameter space."""
    return f"parameters in [-{half_width:g}, {half_width:g}]"


def lengths(first: int, last: int) -> str:
    """Name the strings of several lengths."""
    return f"random strings, N = {first} to {last}"
