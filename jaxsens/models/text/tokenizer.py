"""Texts to token ids, by the ``tokenizer.json`` that lies beside a model's weights.

Needs the package ``tokenizers``, of the extra ``text``. Truncation and padding that the file asks for are switched off:
what is cut is said, and padding is marked in a mask.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsens.models.common import require, require_positive

__all__ = ["Text", "Tokenizer", "Tokens", "load"]

Text = str | tuple[str, str]
"""A text, or a pair of texts."""


class Tokens(NamedTuple):
    """A batch of texts.

    Attributes:
        tokens: Ids ``[b t]`` int32, or ``[b t 2]`` with the types of the tokens beside them if there are pairs.
        mask: Which are real ``[b t]``.
        sites: Which of them the text itself is made of ``[b t]``: no class token, separator or end of text.
        truncated: Which texts were cut ``[b]``.
    """

    tokens: np.ndarray
    mask: np.ndarray
    sites: np.ndarray
    truncated: np.ndarray


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Makes ids of texts.

    Attributes:
        path: The file that it was read from.
        rules: What the package ``tokenizers`` made of it.
    """

    path: Path
    rules: Any

    def __call__(
        self, texts: Sequence[Text], *, longest: int, truncate: bool = False, length: int | None = None
    ) -> Tokens:
        """Make ids of texts, padded to the longest of them.

        Args:
            texts: Texts, or pairs of texts, not empty.
            longest: How many tokens a text may have, such as the ``positions`` of the model.
            truncate: Whether to cut longer texts; the tokens that are added to a text stay.
            length: Pad to this many tokens in place of the longest text's, so that batches have one shape.

        Raises:
            ValueError: If there is no text, one is empty or no text, or longer than ``longest`` without ``truncate``
                or than ``length``, naming its index.
        """
        require_positive(longest=longest)
        require(len(texts) > 0, "texts", texts, "at least one text")
        for index, text in enumerate(texts):
            parts = text if isinstance(text, tuple) and len(text) == 2 else (text,)
            require(all(isinstance(part, str) for part in parts), f"texts[{index}]", text, "a str, or a pair of them")
        pairs = any(isinstance(text, tuple) for text in texts)
        encodings = self._encode(texts, longest if truncate else None)
        sizes = [len(encoding.ids) for encoding in encodings]
        for index, (encoding, size) in enumerate(zip(encodings, sizes, strict=True)):
            own = size - sum(encoding.special_tokens_mask)
            require(own > 0, f"texts[{index}]", texts[index], "a text with a token at least")
            remedy = f"at most {longest}; truncate=True cuts it"
            require(size <= longest, f"the number of tokens of texts[{index}]", size, remedy)
        length = max(sizes) if length is None else length
        require(max(sizes) <= length, "length", length, f"at least {max(sizes)}, as texts[{np.argmax(sizes)}] has")
        tokens, mask, sites = (
            np.zeros((len(texts), length, *s), kind) for s, kind in (((2,), np.int32), ((), bool), ((), bool))
        )
        for row, encoding in enumerate(encodings):
            real = slice(len(encoding.ids))
            tokens[row, real] = np.stack([encoding.ids, encoding.type_ids], axis=1)
            mask[row, real] = True
            sites[row, real] = ~np.array(encoding.special_tokens_mask, bool)
        sites &= ~np.isin(tokens[..., 0], self._markers())
        cut = np.array([bool(encoding.overflowing) for encoding in encodings])
        return Tokens(tokens if pairs else tokens[..., 0], mask, sites, cut)

    def _encode(self, texts: Sequence[Text], longest: int | None) -> list[Any]:
        if longest is None:
            self.rules.no_truncation()
        else:
            self.rules.enable_truncation(longest)
        return self.rules.encode_batch(list(texts))

    def _markers(self) -> list[int]:
        """Return the ids that mark something about a text, also where the text itself spells them; not "unknown"."""
        unknown = getattr(self.rules.model, "unk_token", None)
        added = self.rules.get_added_tokens_decoder()
        return [number for number, token in added.items() if token.special and token.content != unknown]


def load(path: str | os.PathLike[str], *, vocabulary: int) -> Tokenizer:
    """Read ``tokenizer.json``, or that of a folder.

    Args:
        path: The file or the folder.
        vocabulary: How many token ids the model has; its table may be larger than the tokenizer needs.

    Raises:
        ValueError: If the file is missing or corrupted, or makes ids that the model does not have.
    """
    try:
        from tokenizers import Tokenizer as Rules
    except ImportError as error:
        raise ImportError("tokenizers need the package of that name: pip install 'jaxsens[text]'") from error
    require_positive(vocabulary=vocabulary)
    file = Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    require(file.is_file(), "path", str(path), "tokenizer.json, or a folder that has it")
    try:
        rules = Rules.from_file(str(file))
    except Exception as error:  # the package raises no narrower one
        raise ValueError(f"{file} is no tokenizer: {error}") from error
    token, number = max(rules.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1], default=("", -1))
    if number >= vocabulary:
        raise ValueError(
            f"{file} does not fit the model: its token {token!r} has id {number}, the model {vocabulary} ids."
        )
    rules.no_padding()
    return Tokenizer(file, rules)
