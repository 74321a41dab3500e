# %% [markdown]
# # Text: a pretrained encoder
#
# How far do the states of an encoder move, layer by layer, when one token is replaced by its nearest neighbor in the
# embedding table (Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations)?
#
# In Colab, the first cell installs jaxsens: set `URL` to the address that you clone the repository from. Elsewhere the
# cell does nothing.

# %%
import importlib.util
import subprocess
import sys

URL = "URL"  # such as https://HOST/OWNER/REPOSITORY
if importlib.util.find_spec("jaxsens") is None and "google.colab" in sys.modules:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"jaxsens[demo,text] @ git+{URL}"], check=True)

# %%
import tempfile
from pathlib import Path

import jax
import numpy as np

import jaxsens
from jaxsens import changes, embedding_space, models
from jaxsens.models import pretrained
from jaxsens.models.text import bert, encoder, tokenizer

TEXTS = ["the film was not good .", "a very good plot", "the cat sat on the mat and was bad", "it was a bad , bad film"]

# %% [markdown]
# ## The encoder
#
# Set `FOLDER` to a model in the Hugging Face format (`config.json`, `model.safetensors`, `tokenizer.json`): BERT,
# RoBERTa or GPT-2. To follow the paper take `sentence-transformers/all-MiniLM-L6-v2`, for instance by
# `huggingface_hub.snapshot_download("sentence-transformers/all-MiniLM-L6-v2")`. jaxsens downloads nothing itself.
#
# Without a folder this notebook makes a tiny BERT with random weights. It shows how everything works; its numbers say
# nothing about language.

# %%
FOLDER = None


def tiny_bert(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = special + sorted({word for text in TEXTS for word in text.split()})
    rules = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = {"single": "[CLS] $A [SEP]", "special_tokens": [("[CLS]", 2), ("[SEP]", 3)]}
    rules.post_processor = processors.TemplateProcessing(**ends)
    rules.add_special_tokens(special)
    rules.save(str(folder / "tokenizer.json"))
    sizes = {"width": 16, "depth": 2, "heads": 2, "hidden": 32, "vocabulary": len(words), "positions": 16}
    module = bert.Bert(bert.Config(**sizes, read_out="mean"))
    variables = jax.tree.map(lambda leaf: 4 * leaf, encoder.init(module, jax.random.key(0)))
    pretrained.save(folder, module, variables)
    return folder


folder = Path(FOLDER) if FOLDER else tiny_bert(Path(tempfile.mkdtemp()))
model = pretrained.load(folder, read_out="mean")
model

# %% [markdown]
# `tokens` are ids, `mask` marks the real ones, and `sites` those that are perturbed: not `[CLS]` and `[SEP]`.

# %%
tokens_of = tokenizer.load(folder, vocabulary=model.module.config.vocabulary)
tokens, mask, sites, _ = tokens_of(TEXTS, longest=32, truncate=True)
words = embedding_space.token_strings(tokens_of.rules.get_vocab(), model.module.config.vocabulary)
print([words[i] for i in tokens[0]], sites[0], sep="\n")

# %% [markdown]
# ## Nearest neighbors
#
# Special tokens are no neighbors.

# %%
table = model.variables["params"]["tokens"]
nearest = jaxsens.nearest_tokens(table, exclude=embedding_space.special_tokens(words))
print({words[i]: words[nearest.ids[i, 0]] for i in tokens[0][sites[0]]})
nearest

# %% [markdown]
# ## How far the states move
#
# Layer 0 is the embedding; layer i is the output of block i. `whole` is the shift of the whole sequence, `own` that of
# the replaced token, and `others` that of all other tokens: how far the change has spread.

# %%
encode = encoder.hidden_states(model.module)
measure = jaxsens.embedding_shifts(encode)
shifts = measure(model.variables, tokens, nearest.replace(tokens), mask, sites)
for at in ("own", "others", "whole"):
    print(f"{at:7}", shifts.estimate("l2", at=at, relative=True).mean.round(3))
shifts.plot(at="whole", relative=True)

# %% [markdown]
# Which tokens move the embeddings of a text least, and do two norms agree on the order?

# %%
least = embedding_space.least_shifting(shifts.values("l2")[..., 0])[:, 0]
print("moves least:", [words[tokens[text, place]] for text, place in enumerate(least)])
embedding_space.rank_agreement(shifts.values("l1")[..., 0], shifts.values("l2")[..., 0])

# %% [markdown]
# ## Can a state be identified?
#
# The share of states whose nearest row of the embedding table is that of their own token, by layer.

# %%
identified = jaxsens.embedding_space.identifiability(encode)(model.variables, table, tokens, mask, sites)
identified.plot()

# %% [markdown]
# ## Do shifts add up?
#
# The interaction of two replacements, relative to their joint shift: 0 where the states are additive.

# %%
places = np.array([[[1, 2]]] * len(TEXTS))  # the first two tokens of each text
joint = embedding_space.joint_shifts(encode, norms=["l2"])
joint(model.variables, tokens, nearest.replace(tokens), places, mask)

# %% [markdown]
# ## Sensitivity of the output
#
# The same replacements as a perturbation of `token_sensitivity`. This encoder has no classifier, so the change is a
# distance of its output. With a classifier leave `change` out: the result is then the share of changed predictions.

# %%
substitute = jaxsens.one_at_a_time(models.evaluation(model.module))
measure = jaxsens.token_sensitivity(substitute, nearest, change=changes.euclidean_change)
result = measure(jax.random.key(0), model.variables, tokens, mask, sites)
result.plot(example=2, words=[words[i] for i in tokens[2]])
