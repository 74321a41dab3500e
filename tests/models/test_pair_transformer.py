"""The transformer that reads pairs: equal to attention of all tokens to all, computed in another way."""

import jax
import numpy as np
import pytest

from jaxsens.models import pair_transformer
from jaxsens.models.pair_transformer import EPSILON, Config

SIZES = {"numbers": 5, "width": 8, "heads": 2, "hidden": 12}
PAIRS = np.stack(np.divmod(np.arange(25), 5), 1)
VARIANTS = [(False, False), (True, False), (False, True), (True, True)]


def variables_of(config):
    """Variables without zeros and ones, so that every parameter matters."""
    params = pair_transformer.init(config, jax.random.key(0))["params"]
    draws = np.random.default_rng(0)
    return {"params": {name: a + 0.1 * draws.normal(size=a.shape).astype(np.float32) for name, a in params.items()}}


def plain(config, params, pairs):
    """All tokens attend to all, in float64; the answer at the sign is read."""
    p = {name: np.asarray(a, np.float64) for name, a in params.items()}

    def norm(name, x):
        if not config.normalized:
            return x
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
        return scaled * p[f"{name}_gain"] + p[f"{name}_offset"]

    def split(x):
        return x.reshape(*x.shape[:2], config.heads, -1).transpose(0, 2, 1, 3)

    ids = np.concatenate([pairs, np.full((len(pairs), 1), config.numbers)], 1)
    x = p["embedding"][ids] + p["positions"]
    read = norm("attention", x)
    query, key, value = (split(read @ p[name]) for name in ("query", "key", "value"))
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(config.head_size)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    mixed = (weights @ value).transpose(0, 2, 1, 3).reshape(x.shape) @ p["out"] + config.residual * x
    hidden = np.maximum(norm("mlp", mixed) @ p["expand"] + p["expand_bias"], 0)
    answer = hidden @ p["contract"] + p["contract_bias"] + config.residual * mixed
    return (norm("final", answer) @ p["readout"] + p["readout_bias"])[:, -1]


@pytest.mark.parametrize(("residual", "normalized"), VARIANTS)
def test_tables_and_embeddings_give_what_attention_of_all_tokens_gives(residual, normalized):
    config = Config(**SIZES, residual=residual, normalized=normalized)
    variables = variables_of(config)
    expected = plain(config, variables["params"], PAIRS)
    assert np.ptp(expected) > 0.1
    vectors = pair_transformer.embed(config)(variables, PAIRS)
    for logits in (
        pair_transformer.evaluation(config)(variables, PAIRS),
        pair_transformer.from_embeddings(config)(variables, vectors),
    ):
        assert np.allclose(logits, expected, atol=2e-5)


def test_a_moved_embedding_is_seen_by_its_example_only():
    config = Config(**SIZES)
    variables, apply = variables_of(config), pair_transformer.from_embeddings(config)
    vectors = np.array(pair_transformer.embed(config)(variables, PAIRS))
    clean = np.asarray(apply(variables, vectors))
    vectors[3, 1] += 1
    changed = np.abs(np.asarray(apply(variables, vectors)) - clean).max(1)
    assert changed[3] > 1e-3
    assert np.delete(changed, 3).max() == 0


def test_gradients_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    config = Config(**SIZES)
    variables, labels = variables_of(config), PAIRS.sum(1) % 5
    apply = pair_transformer.evaluation(config)

    def loss(params):
        return -jax.nn.log_softmax(apply({"params": params}, PAIRS))[np.arange(25), labels].mean()

    ours = jax.grad(loss)(variables["params"])
    p = {name: torch.tensor(a, requires_grad=True) for name, a in variables["params"].items()}
    x = p["embedding"][torch.tensor(np.concatenate([PAIRS, np.full((25, 1), 5)], 1))] + p["positions"]
    query, key, value = ((x @ p[name]).view(25, 3, 2, 4).transpose(1, 2) for name in ("query", "key", "value"))
    context = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(25, 3, 8)
    hidden = torch.relu(context @ p["out"] @ p["expand"] + p["expand_bias"])
    logits = (hidden @ p["contract"] + p["contract_bias"])[:, 2] @ p["readout"] + p["readout_bias"]
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    for name, gradient in ours.items():
        assert np.allclose(gradient, p[name].grad, atol=1e-6), name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Config(numbers=5, width=6, heads=4), "heads is 4"),
        (lambda: Config(numbers=0), "numbers is 0"),
        (lambda: Config(numbers=5, residual="no"), "residual is 'no'"),
        (lambda: apply_to(np.array([[0, 5]])), "pairs is .5"),
        (lambda: apply_to(np.array([[0, -1]])), "pairs is .-1"),
        (lambda: apply_to(np.array([[0.0, 1.0]])), "pairs is"),
        (lambda: apply_to(np.array([[0, 1, 5]])), "pairs is"),
        (lambda: pair_transformer.from_embeddings(Config(**SIZES))(start(), np.zeros((1, 3, 8))), "vectors is"),
        (lambda: pair_transformer.evaluation(Config(**SIZES))({"params": {}}, PAIRS), "but Config needs it"),
        (lambda: pair_transformer.evaluation(Config(**SIZES))(start(), PAIRS, np.ones(25)), "mask"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def start():
    return pair_transformer.init(Config(**SIZES), jax.random.key(0))


def apply_to(pairs):
    return pair_transformer.evaluation(Config(**SIZES))(start(), pairs)
