"""Minimal token perturbations: every token replaced by its nearest one, and how far embeddings and states move.

    nearest = nearest_tokens(table, exclude=special_tokens(strings))
    measure = embedding_shifts(encode)                                  # encode(params, tokens, mask) -> [l+1 b t d]
    shifts = measure(params, tokens, nearest.replace(tokens), mask, sites)
    shifts.estimate("l2", at="whole", relative=True).mean               # by layer, with its error over sequences

``nearest`` finds neighbors (by the search of ``nearest_rows``), ``vocabulary`` says which tokens to leave out,
``shifts`` measures single replacements (into ``results``), ``joint`` several at once, ``identification`` whether states
are nearest to their own tokens, and ``smallest_shifts`` compares norms. ``states`` and ``norms`` serve them.

After Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations (arXiv 2506.18011).
"""

from jaxsens.embedding_space.identification import Identifiability, identifiability
from jaxsens.embedding_space.joint import JointShifts, joint_shifts
from jaxsens.embedding_space.nearest import Nearest, nearest_tokens
from jaxsens.embedding_space.results import EmbeddingShifts
from jaxsens.embedding_space.shifts import embedding_shifts
from jaxsens.embedding_space.smallest_shifts import Agreement, agreement, count_tokens, least_shifting, rank_agreement
from jaxsens.embedding_space.vocabulary import special_tokens, spelling_groups, token_strings

__all__ = [
    "Agreement",
    "EmbeddingShifts",
    "Identifiability",
    "JointShifts",
    "Nearest",
    "agreement",
    "count_tokens",
    "embedding_shifts",
    "identifiability",
    "joint_shifts",
    "least_shifting",
    "nearest_tokens",
    "rank_agreement",
    "special_tokens",
    "spelling_groups",
    "token_strings",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
