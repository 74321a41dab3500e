"""Measures of ``experiments.token_shifts`` for one model: shifts of embeddings and of states, and identifiability."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.token_shifts.config import Config
from experiments.token_shifts.data import Corpus, Pictures, Reading
from jaxsens import embedding_space
from jaxsens.execution import Execution, parallel
from jaxsens.models.text import encoder, tokenizer
from jaxsens.typing import Array, PyTree

__all__ = [
    "AT",
    "CHOSEN",
    "NORMS",
    "PAIRS",
    "SCALES",
    "Subject",
    "hidden_states",
    "measure_text_model",
    "measure_vit",
]

Encode = Callable[..., jax.Array]

NORMS = ("l1", "l2", "linf")
PAIRS = (("l1", "l2"), ("l2", "linf"), ("l1", "linf"))
AT = ("whole", "own", "others")
SCALES = ("absolute", "relative")
CHOSEN = ("least", "random")
"""Which tokens are followed through the layers: the least-shifting ones of a text, or any."""


def hidden_states(module: Any) -> Encode:
    """Return ``encode(variables, tokens, mask=None)``: all states, and the last one normalized where it is read so.

    ``encode`` gives ``[l+1 b t d]`` for BERT, ``[l+2 b t d]`` for models with a final normalization: the library has
    GPT-2's last state normalized and a ViT's not; here both versions are there. Equal modules share compiled code.
    """
    return parallel.bind(_hidden_states, module)


def _hidden_states(module: Any, variables: PyTree, tokens: Array, mask: Array | None = None, /) -> jax.Array:
    encoder.require_variables(module, variables)

    def states(module: Any, tokens: Array, mask: Array | None) -> jax.Array:
        every = module.hidden_states(tokens, mask)
        return jnp.concatenate([every, module.finish(every[-1])[None]]) if module.config.final_norm else every

    return module.apply(variables, tokens, mask, method=states)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, and texts or images with what each of their tokens is replaced by."""

    encode: Encode
    variables: PyTree
    tokens: np.ndarray
    alternatives: np.ndarray
    mask: np.ndarray | None
    sites: np.ndarray


def measure_text_model(
    config: Config, corpus: Corpus, reading: Reading, module: Any, variables: PyTree, label: str
) -> dict[str, Array]:
    """Measure everything of a model of text; every token is replaced by the nearest row of the model's own table.

    Returns:
        What `embedding_level`, `followed` and `identified` give; and for tokens of every commonness, by its source:
        ``shift_<name>`` and ``relative_<name>`` of the embedding in l2 ``[p]``, ``size_<name>`` of their rows, and
        ``distance_<name>`` to the nearest row, ``1 - cos``. For the tokens of the example ``example``,
        l2 shifts of the whole sequence by state ``[t l]``, 0 where a token is not replaced.
    """
    table = np.asarray(variables["params"]["tokens"])
    nearest = embedding_space.nearest_tokens(
        table, exclude=corpus.special, execution=Execution(progress=f"{label}: nearest tokens")
    )
    encode = hidden_states(module)

    def subject(read: tokenizer.Tokens, sites: np.ndarray) -> Subject:
        sites = sites & nearest.replaceable[read.tokens]
        return Subject(encode, variables, read.tokens, nearest.replace(read.tokens), read.mask, sites)

    held_out, pool, count = reading.measured, reading.pool, len(reading.measured.tokens)
    chosen = np.zeros(pool.sites.shape, bool)
    for points in reading.points.values():
        chosen[points.text, points.place] = True
    # Both together, so that one compiled program serves them.
    both = subject(
        tokenizer.Tokens(*map(np.concatenate, zip(held_out, pool, strict=True))),
        np.concatenate([held_out.sites, chosen]),
    )
    shifts = embedding_shifts(config, both, label)
    results = embedding_level(config, shifts, count)
    for name, points in reading.points.items():
        where = (count + points.text, points.place, 0)
        results |= {
            f"shift_{name}": shifts.values(at="own")[where],
            f"relative_{name}": shifts.values(at="own", relative=True)[where],
            f"size_{name}": np.linalg.norm(table[points.token], axis=1),
            f"distance_{name}": nearest.distances[points.token, 0],
        }
    measured = subject(held_out, held_out.sites)
    results |= followed(config, measured, results["least"][NORMS.index("l2")], label, subject(*reading.example))
    return results | identified(config, measured, table, corpus.special, label)


def measure_vit(config: Config, pictures: Pictures, module: Any, variables: PyTree, label: str) -> dict[str, Array]:
    """Measure shifts of a ViT, where a patch is replaced by the nearest other one of all images, by its embedding.

    As for tokens of text, the nearest in cosine among the rows of a table: the embeddings of all different patches,
    without positions. Images do not repeat patches as texts repeat words, so commonness is not measured.
    """
    linear = variables["params"]["patches"]
    table = pictures.patches @ np.asarray(linear["kernel"]) + np.asarray(linear["bias"])
    nearest = embedding_space.nearest_tokens(table)
    alternatives = pictures.patches[nearest.replace(pictures.ids)]
    tokens = pictures.patches[pictures.ids]
    subject = Subject(hidden_states(module), variables, tokens, alternatives, None, np.ones(tokens.shape[:2], bool))
    results = embedding_level(config, embedding_shifts(config, subject, label), len(tokens))
    return results | followed(config, subject, results["least"][NORMS.index("l2")], label)


def embedding_shifts(config: Config, subject: Subject, label: str) -> embedding_space.EmbeddingShifts:
    """Replace every site, and measure only the shift of the embedding, under all norms."""
    measure = embedding_space.embedding_shifts(
        subject.encode,
        norms=NORMS,
        layers=[0],
        execution=Execution(chunk=config.embedding_chunk, progress=f"{label}: embeddings"),
    )
    return measure(subject.variables, subject.tokens, subject.alternatives, subject.mask, subject.sites)


def embedding_level(config: Config, shifts: embedding_space.EmbeddingShifts, count: int) -> dict[str, Array]:
    """Find the least-shifting tokens of the first ``count`` sequences, and how norms agree within a sequence.

    Returns:
        ``least``: positions of the least-shifting tokens by norm ``[n b k]``, smallest first; ``agreement``: rank
        correlation between the norms of ``PAIRS`` over the tokens of a sequence ``[pairs b]``.
    """
    by_norm = {norm: shifts.values(norm)[:count, :, 0] for norm in NORMS}
    return {
        "least": np.stack([embedding_space.least_shifting(by_norm[norm], config.least) for norm in NORMS]),
        "agreement": np.stack([embedding_space.rank_agreement(by_norm[a], by_norm[b]).values for a, b in PAIRS]),
    }


def followed(
    config: Config, subject: Subject, least: np.ndarray, label: str, example: Subject | None = None
) -> dict[str, Array]:
    """Follow the l2 shifts of some tokens through all states.

    Args:
        config: Its numbers of sequences and tokens are used.
        subject: The model and the sequences.
        least: Positions of their least-shifting tokens ``[b k]``, smallest first.
        label: Label of the progress bar.
        example: One more sequence, of which every site is followed.

    Returns:
        ``<chosen>_<at>_<scale>``: shifts of the tokens ``CHOSEN``, ``AT`` the token, the others or the whole sequence,
        absolute or relative to the states' norm, ``[b k l]`` float32; and ``example``, the absolute shifts of its whole
        sequence ``[t l]``, 0 where a token is no site.
    """
    count = min(config.followed, len(least))
    rng, width = np.random.default_rng([config.seed, 2]), least.shape[1]
    drawn = np.stack([rng.choice(np.flatnonzero(row), width, replace=False) for row in subject.sites[:count]])
    places = {"least": least[:count], "random": drawn}
    sites = np.zeros(subject.sites[:count].shape, bool)
    for chosen in places.values():
        np.put_along_axis(sites, chosen, True, 1)
    sequences = (subject.tokens[:count], subject.alternatives[:count], _first(subject.mask, count), sites)
    if example is not None:
        last = (example.tokens, example.alternatives, example.mask, example.sites)
        sequences = tuple(
            None if part is None else np.concatenate([part, one]) for part, one in zip(sequences, last, strict=True)
        )
    measure = embedding_space.embedding_shifts(
        subject.encode,
        norms=("l2",),
        execution=Execution(chunk=config.chunk, progress=f"{label}: layers"),
    )
    shifts = measure(subject.variables, *sequences)
    results = {}
    for at in AT:
        for scale in SCALES:
            values = shifts.values(at=at, relative=scale == "relative").astype(np.float32)[:count]
            for name, chosen in places.items():
                results[f"{name}_{at}_{scale}"] = np.take_along_axis(values, chosen[..., None], 1)
    return results if example is None else results | {"example": np.nan_to_num(shifts.values()[count])}


def identified(
    config: Config, subject: Subject, table: np.ndarray, special: np.ndarray, label: str
) -> dict[str, Array]:
    """Return ``identified``: the share of a sequence's tokens that are the nearest row of their own state ``[b l]``."""
    count = config.identified
    measure = embedding_space.identifiability(subject.encode, execution=Execution(progress=f"{label}: identifiability"))
    kept = (subject.tokens[:count], subject.mask[:count], subject.sites[:count])
    return {"identified": measure(subject.variables, table, *kept, exclude=special).per_sequence}


def _first(mask: np.ndarray | None, count: int) -> np.ndarray | None:
    return None if mask is None else mask[:count]
