"""Names of the models of ``experiments.token_shifts`` for readers."""

__all__ = ["NAMES", "model_label"]

NAMES = {"minilm": "MiniLM", "bert": "small BERT", "gpt2": "small GPT-2", "vit": "small ViT"}


def model_label(kind: str, state: str) -> str:
    """Return the label of a kind of model before or after training, such as ``MiniLM, fine-tuned``."""
    if kind == "minilm":
        return f"MiniLM, {'as published' if state == 'before' else 'fine-tuned'}"
    return f"{NAMES[kind]}, {'random weights' if state == 'before' else 'trained'}"
