"""Image classifiers over patches, and what their convolutions share."""

__all__: list[str] = []
