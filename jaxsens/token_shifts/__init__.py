"""Minimal token perturbations: every token replaced by its nearest, and how far embeddings and states move.

    nearest = nearest_tokens(table, exclude=special_tokens(strings))
    measure = embedding_shifts(encode)                                  # encode(params, tokens, mask) -> [l+1 b t d]
    shifts = measure(params, tokens, nearest.replace(tokens), mask, sites)
    shifts.estimate("l2", at="whole", relative=True).mean               # by layer, with its error over sequences

After Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations (arXiv 2506.18011).
"""

from jaxsens.token_shifts.identified import Identifiability, identifiability
from jaxsens.token_shifts.joint import JointShifts, joint_shifts
from jaxsens.token_shifts.least import Agreement, agreement, count_tokens, least_shifting, rank_agreement
from jaxsens.token_shifts.nearest import Nearest, nearest_tokens
from jaxsens.token_shifts.recorded import EmbeddingShifts
from jaxsens.token_shifts.shifts import embedding_shifts
from jaxsens.token_shifts.vocabulary import special_tokens, spelling_groups, token_strings

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
