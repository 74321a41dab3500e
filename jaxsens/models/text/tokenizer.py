"""Texts to token ids, by the ``tokenizer.json`` in the folder of a model.

Needs the package ``tokenizers``, of the extra ``text``. Truncation and padding that the file asks for are switched off:
texts are cut only on request, and padding is marked in a mask.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsens.models.common import require, require_flags, require_path, require_positive

__all__ = ["Text", "Tokenizer", "Tokens", "load"]

Text = str | tuple[str, str]
"""A text, or a pair of texts."""


class Tokens(NamedTuple):
    """A batch of texts.

    Attributes:
        tokens: Ids ``[b t]`` int32, or ``[b t 2]``, ids and types, if there are pairs.
        mask: Which tokens are real ``[b t]``.
        sites: Which tokens belong to the text itself ``[b t]``: no class token, separator or end of text.
        truncated: Which texts were cut ``[b]``.

    Example:
        >>> one = np.ones((1, 2), bool)
        >>> Tokens(tokens=np.array([[5, 7]]), mask=one, sites=one, truncated=np.array([False])).tokens.shape
        (1, 2)
    """

    tokens: np.ndarray
    mask: np.ndarray
    sites: np.ndarray
    truncated: np.ndarray


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Maps texts to ids.

    Attributes:
        path: The file that it was read from.
        rules: The object that the package ``tokenizers`` made of it.

    Example:
        >>> Tokenizer(Path("bert/tokenizer.json"), rules=None).path.name
        'tokenizer.json'
    """

    path: Path
    rules: Any

    def __call__(
        self, texts: Sequence[Text], *, longest: int, truncate: bool = False, length: int | None = None
    ) -> Tokens:
        """Return the ids of texts, padded to the longest of them.

        Args:
            texts: Texts, or pairs of texts, none of them empty.
            longest: The largest number of tokens of a text, such as the ``positions`` of the model.
            truncate: Whether to cut longer texts; tokens that are added to a text stay.
            length: Pad to this many tokens in place of the longest text's, so that batches have one shape.

        Raises:
            ValueError: If there is no text; or if one is empty, no text, no valid Unicode, longer than ``longest``
                without ``truncate``, or longer than ``length``, naming its index.
        """
        require_positive(longest=longest, **({} if length is None else {"length": length}))
        require_flags(truncate=truncate)
        require(not isinstance(texts, str | bytes), "texts", texts, "a list of texts; put a single one into a list")
        require(len(texts) > 0, "texts", texts, "at least one text")
        for index, text in enumerate(texts):
            _require_text(index, text)
        encodings, cut = self._encode(texts, longest, truncate)
        sizes = [len(encoding.ids) for encoding in encodings]
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
        sites &= ~np.isin(tokens[..., 0], self._markers)
        pairs = any(isinstance(text, tuple) for text in texts)
        return Tokens(tokens if pairs else tokens[..., 0], mask, sites, cut)

    def _encode(self, texts: Sequence[Text], longest: int, truncate: bool) -> tuple[list[Any], np.ndarray]:
        """Return encodings of texts, and which of them were cut ``[b]``.

        Whole texts are encoded first: from version 0.23.1 on the package stops at the longest length, and its
        ``overflowing`` no longer says that a text was cut.
        """
        self.rules.no_truncation()
        encodings = _call(self.rules.encode_batch, list(texts))
        for index, encoding in enumerate(encodings):
            text_tokens = len(encoding.ids) - sum(encoding.special_tokens_mask)
            require(text_tokens > 0, f"texts[{index}]", texts[index], "a text with a token at least")
        cut = np.array([len(encoding.ids) > longest for encoding in encodings])
        if cut.any() and not truncate:
            index = int(cut.argmax())
            remedy = f"at most {longest}; truncate=True cuts it"
            require(False, f"the number of tokens of texts[{index}]", len(encodings[index].ids), remedy)
        if cut.any():
            long = np.flatnonzero(cut)
            try:
                self.rules.enable_truncation(longest)
                again = _call(self.rules.encode_batch, [texts[index] for index in long])
            finally:
                self.rules.no_truncation()
            for index, encoding in zip(long, again, strict=True):
                encodings[index] = encoding
        return encodings, cut

    @functools.cached_property
    def _markers(self) -> list[int]:
        """The ids that mark something about a text, also where the text itself spells them; not "unknown"."""
        model = json.loads(self.rules.to_str())["model"]
        unknown = model.get("unk_token")
        if unknown is None and model.get("unk_id") is not None:  # Unigram has the number in its vocabulary
            unknown = model["vocab"][model["unk_id"]][0]
        added = self.rules.get_added_tokens_decoder()
        return [number for number, token in added.items() if token.special and token.content != unknown]


def load(path: str | os.PathLike[str], *, vocabulary: int) -> Tokenizer:
    """Read ``tokenizer.json``.

    Args:
        path: The file, or the folder that holds it.
        vocabulary: The number of token ids of the model; its table may be larger than the tokenizer needs.

    Raises:
        ValueError: If the file is missing or corrupted, or makes ids that the model does not have.
        ImportError: If the package ``tokenizers`` is missing.

    Example:
        With a model in the folder ``models/minilm``::

            texts = load("models/minilm", vocabulary=30522)
            tokens, mask, sites, truncated = texts(["a fine film"], longest=128, truncate=True)

        >>> load("no/such/tokenizer.json", vocabulary=100)
        Traceback (most recent call last):
        ValueError: path is 'no/such/tokenizer.json', but must be tokenizer.json, or a folder that ...
    """
    try:
        from tokenizers import Tokenizer as Rules
    except ImportError as error:
        raise ImportError("tokenizers need the package of that name: pip install 'jaxsens[text]'") from error
    require_positive(vocabulary=vocabulary)
    require_path(path)
    file = Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    require(file.is_file(), "path", str(path), "tokenizer.json, or a folder that has it")
    try:
        rules = _call(Rules.from_file, str(file))
    except Exception as error:  # the package raises no narrower one
        raise ValueError(f"{file} is no tokenizer: {error}") from error
    token, number = max(rules.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1], default=("", -1))
    if number >= vocabulary:
        raise ValueError(
            f"{file} does not fit the model: its token {token!r} has id {number}, the model {vocabulary} ids."
        )
    rules.no_padding()
    return Tokenizer(file, rules)


def _require_text(index: int, text: Any) -> None:
    parts = text if isinstance(text, tuple) and len(text) == 2 else (text,)
    require(all(isinstance(part, str) for part in parts), f"texts[{index}]", text, "a str, or a pair of them")
    try:
        "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"texts[{index}] is {text!r}, but must be valid Unicode: it has half of a surrogate pair."
        ) from error


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the package, whose panics are no ``Exception``."""
    try:
        return function(*arguments)
    except Exception as error:
        raise ValueError(f"the package tokenizers says: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the package tokenizers failed: {error}") from None


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
