"""The published table of exact sensitivities, row by row, against the closed form at every size of vocabulary.

Table 3 of Vasudeva et al., Transformers Learn Low Sensitivity Functions, does not say the size M of the vocabulary.
"""

from typing import Any

from jaxsens.data.sparse_tokens import SOLUTIONS, TIES, SparseTokens, exact_sensitivity

LENGTH = 50

LARGEST = 400
"""The largest vocabulary that is tried; sensitivities of the published settings change by less than a digit beyond."""

TABLE = {
    (3, 3, 1, 6): {"sparse": 0.0, "frequent": 0.1315},
    (3, 5, 1, 16): {"sparse": 0.0, "frequent": 0.2878},
    (3, 7, 1, 28): {"sparse": 0.0, "frequent": 0.4502},
    (1, 7, 7, 10): {"sparse": 0.0339, "frequent": 0.0},
    (1, 17, 7, 20): {"sparse": 0.0339, "frequent": 0.0},
    (1, 32, 7, 36): {"sparse": 0.0339, "frequent": 0.0},
}
"""``(n_s, n_f, n_d, m)`` -> solution -> sensitivity."""


def sensitivity(numbers: tuple[int, int, int, int], solution: str, vocabulary: int, **options: Any) -> float:
    """Return the exact sensitivity of a rule, whether or not the numbers keep the constraints of the definition."""
    sparse, frequent, excess, pool = numbers
    own = sparse if solution == "sparse" else (frequent + excess) // 2
    other, ids = (0, 1) if solution == "sparse" else (frequent - own, pool)
    return float(exact_sensitivity(own, other, ids, LENGTH, vocabulary, **options))


def broken_constraint(numbers: tuple[int, int, int, int], vocabulary: int) -> str:
    """Return which constraint of Definition 4.2 a setting breaks; empty if none."""
    try:
        SparseTokens(vocabulary, LENGTH, *numbers)
    except ValueError as error:
        return str(error)
    return ""


def rows(vocabulary: int) -> list[dict[str, Any]]:
    """Return a row for each published number: the closed form, and the vocabularies that give the published digits."""
    table = []
    for numbers, solutions in TABLE.items():
        for solution in SOLUTIONS:
            smallest = 2 * numbers[3] + 3  # that Definition 4.2 allows
            digits = {m: round(sensitivity(numbers, solution, m), 4) for m in range(smallest - 1, LARGEST + 1)}
            fits = [m for m, value in digits.items() if value == solutions[solution]]
            everything = len(fits) == len(digits)
            possible = solution == "sparse" or 2 * numbers[3] <= vocabulary
            exact = round(sensitivity(numbers, solution, vocabulary), 6) if possible else None
            names = ("n_s", "n_f", "n_d", "m")
            table.append(dict(zip(names, numbers, strict=True)) | {
                "solution": solution, "published": solutions[solution],
                "exact": exact, "vocabulary": vocabulary,
                "reproduced": exact is not None and round(exact, 4) == solutions[solution],
                "vocabularies_that_reproduce": "all" if everything else " ".join(map(str, fits)) or "none",
                "smallest_allowed_vocabulary": smallest,
                "broken_constraint": broken_constraint(numbers, vocabulary),
            })  # fmt: skip
    return table


def conventions() -> list[dict[str, Any]]:
    """Return, for other readings of the definition, the vocabularies that reproduce all numbers of both halves.

    Readings differ in what a tie is, and in whether a token may be replaced by itself. The halves are the rows with
    n_s = 3 and with n_s = 1; vocabularies need not keep the constraints.
    """
    table = []
    for ties in TIES:
        for itself in (True, False):
            columns = {}
            for sparse, name in ((3, "n_s=3"), (1, "n_s=1")):
                half = {numbers: solutions for numbers, solutions in TABLE.items() if numbers[0] == sparse}
                largest = max(2 * numbers[3] for numbers in half)
                fits = [
                    m
                    for m in range(largest if sparse == 3 else 3, LARGEST + 1)
                    if all(
                        round(sensitivity(numbers, solution, m, ties=ties, replace_by_itself=itself), 4) == value
                        for numbers, solutions in half.items()
                        for solution, value in solutions.items()
                        if 2 * (numbers[3] if solution == "frequent" else 1) <= m
                    )
                ]
                columns[name] = " ".join(map(str, fits)) or "none"
            table.append({"ties": ties, "replace_by_itself": itself, **columns})
    return table
