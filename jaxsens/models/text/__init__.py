"""Text encoders, their token ids and their tokenizer."""

__all__: list[str] = []
