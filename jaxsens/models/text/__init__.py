"""Models of text: BERT and RoBERTa, GPT-2, Llama, an LSTM; their hidden states; and tokenizers."""

from jaxsens.models.text import bert, encoder, gpt2, llama, lstm, rotary, token_ids, tokenizer

__all__ = ["bert", "encoder", "gpt2", "llama", "lstm", "rotary", "token_ids", "tokenizer"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
