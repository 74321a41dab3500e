"""A matplotlib figure that a notebook shows without ``%matplotlib inline``; imported when a figure is first drawn."""

import io

from matplotlib.figure import Figure

__all__ = ["ShownFigure"]


class ShownFigure(Figure):
    """A figure that shows itself as a PNG where it is the value of a notebook's cell.

    Only pyplot's figures are shown otherwise, and figures of this library belong to no global state.

    Example:
        >>> ShownFigure(figsize=(1, 1))._repr_png_()[1:4]
        b'PNG'
    """

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        self.savefig(image, format="png", dpi=110, metadata={"Software": None})
        return image.getvalue()
