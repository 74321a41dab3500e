"""Texts to ids: what is padded, what is added, what is cut, and what cannot be."""

import json

import numpy as np
import pytest

pytest.importorskip("tokenizers")

import tokenizers

from jaxsens.models.text import tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "##s", "sat", "on", "mat"]
LONGEST = {"longest": 16}


@pytest.fixture
def folder(tmp_path):
    """A tokenizer as BERT has it, with truncation and padding switched on, as files do."""
    rules = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    rules.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    rules.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    rules.add_special_tokens(WORDS[:4])
    rules.enable_truncation(4)
    rules.enable_padding(length=12)
    rules.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_texts_are_padded_to_the_longest_and_masked(folder):
    texts = tokenizer.load(folder, vocabulary=10)
    batch = texts(["a cat sat on a mat", "cats dog"], **LONGEST)
    np.testing.assert_array_equal(batch.tokens, [[2, 4, 5, 7, 8, 4, 9, 3], [2, 5, 6, 1, 3, 0, 0, 0]])
    np.testing.assert_array_equal(batch.mask, np.arange(8)[None] < np.array([[8], [5]]))
    assert batch.tokens.dtype == np.int32
    assert not batch.truncated.any()
    # What was added is no site, and neither is padding; an unknown word is one.
    np.testing.assert_array_equal(batch.sites, batch.mask & (batch.tokens != 2) & (batch.tokens != 3))
    wider = texts(["a cat sat on a mat", "cats dog"], **LONGEST, length=11)
    assert wider.tokens.shape == (2, 11)
    np.testing.assert_array_equal(wider.tokens[:, :8], batch.tokens)
    assert not wider.mask[:, 8:].any()


def test_markers_spelled_in_a_text_are_no_sites(folder):
    batch = tokenizer.load(folder / "tokenizer.json", vocabulary=10)(["a [SEP] cat"], **LONGEST)
    np.testing.assert_array_equal(batch.tokens, [[2, 4, 3, 5, 3]])
    np.testing.assert_array_equal(batch.sites, [[False, True, False, True, False]])


def test_pairs_have_types(folder):
    batch = tokenizer.load(folder, vocabulary=10)([("a cat", "sat"), "mat"], **LONGEST)
    np.testing.assert_array_equal(batch.tokens[..., 0], [[2, 4, 5, 3, 7, 3], [2, 9, 3, 0, 0, 0]])
    np.testing.assert_array_equal(batch.tokens[..., 1], [[0, 0, 0, 0, 1, 1], [0] * 6])


def test_long_texts_are_an_error_or_cut_as_stated(folder):
    texts = tokenizer.load(folder, vocabulary=10)
    with pytest.raises(
        ValueError, match=r"the number of tokens of texts\[1\] is 8, but must be at most 5; truncate=True"
    ):
        texts(["a cat", "a cat sat on a mat"], longest=5)
    batch = texts(["a cat", "a cat sat on a mat"], longest=5, truncate=True)
    np.testing.assert_array_equal(batch.tokens, [[2, 4, 5, 3, 0], [2, 4, 5, 7, 3]])
    np.testing.assert_array_equal(batch.truncated, [False, True])
    assert texts(["a cat sat on a mat"], **LONGEST).tokens.shape == (1, 8)  # a later call does not cut


def test_texts_that_cannot_be_read_are_named_by_their_index(folder):
    texts = tokenizer.load(folder, vocabulary=10)
    for given, options, message in (
        (["a", ""], LONGEST, r"texts\[1\] is '', but must be a text with a token at least"),
        (["a", "  "], LONGEST, r"texts\[1\] is '  '"),
        (["a", b"cat"], LONGEST, r"texts\[1\] is b'cat', but must be a str, or a pair of them"),
        ([("a", "cat", "sat")], LONGEST, r"texts\[0\] is \('a', 'cat', 'sat'\)"),
        ([], LONGEST, r"texts is \[\], but must be at least one text"),
        (["a"], {"longest": 0}, "longest is 0"),
        (["a", "a cat"], {"longest": 9, "length": 3}, r"length is 3, but must be at least 4, as texts\[1\] has"),
    ):
        with pytest.raises(ValueError, match=message):
            texts(given, **options)


def test_tokenizers_that_do_not_fit_are_refused(folder):
    with pytest.raises(
        ValueError, match=r"tokenizer.json does not fit the model: its token 'mat' has id 9, the model 9"
    ):
        tokenizer.load(folder, vocabulary=9)
    with pytest.raises(ValueError, match=r"path is .*absent', but must be tokenizer.json, or a folder that has it"):
        tokenizer.load(folder / "absent", vocabulary=10)
    file = folder / "tokenizer.json"
    for content in (file.read_text()[:-20], json.dumps({"model": {"type": "Nothing"}}), ""):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"tokenizer.json is no tokenizer"):
            tokenizer.load(folder, vocabulary=10)


def rules_of(kind):
    """A tokenizer of words, and whether it adds tokens to a text."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(20))]
    rules = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    rules.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    rules.add_special_tokens(words[:4])
    if kind == "added":
        rules.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return rules


@pytest.mark.parametrize("kind", ["added", "nothing added"])
def test_cut_texts_are_marked(kind, tmp_path):
    """Whatever the package's version says of what overflows."""
    rules_of(kind).save(str(tmp_path / "tokenizer.json"))
    texts = tokenizer.load(tmp_path, vocabulary=24)
    for longest in (4, 8):
        counts = range(1, 12)
        batch = texts([" ".join(f"w{i}" for i in range(count)) for count in counts], longest=longest, truncate=True)
        np.testing.assert_array_equal(batch.truncated, batch.sites.sum(1) < np.array(counts))
        assert batch.truncated.any()
        assert batch.tokens.shape[1] == longest


def test_unknown_pieces_are_sites_in_every_model(tmp_path):
    """A Unigram tokenizer names its unknown token by a number."""
    unigram = tokenizers.models.Unigram([("<unk>", 0.0), ("<s>", 0.0), ("▁a", -1.0), ("▁b", -1.0)], unk_id=0)
    level = tokenizers.models.WordLevel({"<unk>": 0, "<s>": 1, "a": 2, "b": 3}, unk_token="<unk>")
    for name, model, before in (
        ("unigram", unigram, tokenizers.pre_tokenizers.Metaspace()),
        ("level", level, tokenizers.pre_tokenizers.Whitespace()),
    ):
        rules = tokenizers.Tokenizer(model)
        rules.pre_tokenizer = before
        rules.add_special_tokens(["<unk>", "<s>"])
        rules.save(str(tmp_path / f"{name}.json"))
        batch = tokenizer.load(tmp_path / f"{name}.json", vocabulary=4)(["a zz <s> b"], **LONGEST)
        np.testing.assert_array_equal(batch.sites, batch.mask & (batch.tokens != 1))
        assert (batch.tokens == 0).any()


def test_texts_of_other_forms_are_refused(folder):
    texts = tokenizer.load(folder, vocabulary=10)
    for given, options, message in (
        ("hello", LONGEST, "texts is 'hello', but must be a list of texts"),
        (["a", json.loads('"a \\ud83d cat"')], LONGEST, r"texts\[1\] is .*must be valid Unicode"),
        (["a", ("cat", "\ud800")], LONGEST, r"texts\[1\] is .*must be valid Unicode"),
        (["a"], {"longest": True}, "longest is True"),
        (["a"], {"longest": 4, "truncate": "no"}, "truncate is 'no', but must be True or False"),
        (["a"], {"longest": 4, "length": 2.5}, "length is 2.5"),
    ):
        with pytest.raises(ValueError, match=message):
            texts(given, **options)
