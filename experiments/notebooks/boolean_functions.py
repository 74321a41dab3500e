# %% [markdown]
# # Boolean functions
#
# A recognizer is a network that accepts or rejects bit strings. The *sensitivity* of a string is the number of bits
# whose flip changes the decision (Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding
# Boolean Functions).
#
# In Colab, the first cell installs jaxsens: set `URL` to the address that you clone the repository from. Elsewhere the
# cell does nothing.

# %%
import importlib.util
import subprocess
import sys

URL = "URL"  # such as https://HOST/OWNER/REPOSITORY
if importlib.util.find_spec("jaxsens") is None and "google.colab" in sys.modules:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"jaxsens[plot] @ git+{URL}"], check=True)

# %%
import jax
import jax.numpy as jnp
import numpy as np

import jaxsens
from jaxsens import boolean, perturb, training
from jaxsens.models import recognizers

# %% [markdown]
# ## Exact: languages and truth tables
#
# Languages have closed forms at any length. `truth_tables` computes from all `2^n` strings.

# %%
for language in (boolean.languages.parity(11), boolean.languages.majority(11), boolean.languages.dictator(11, 3)):
    table = boolean.truth_tables.truth_table(language.accept, 11)
    exact, counted = float(language.average_sensitivity), float(boolean.truth_tables.average_sensitivity(table))
    print(f"{language.name:9} average sensitivity {exact:.4f} in closed form, {counted:.4f} from the table")
boolean.languages.majority(11).plot()

# %% [markdown]
# ## Sampled: a transformer with random weights, on strings of 30 bits
#
# For many bits `substitution.recognizer(config)` is a faster primitive than `one_at_a_time`, with equal results;
# `audit=5` would evaluate five strings in float64 as well.

# %%
config = recognizers.Config(depth=2, heads=2, head_size=8)
variables = recognizers.init(config, jax.random.key(2), "normal")
strings = boolean.strings.uniform(jax.random.key(1), 20, 30)
measure = boolean.sensitivity_profile(jaxsens.one_at_a_time(recognizers.evaluation(config)))
profile = measure(jax.random.key(0), variables, strings)
print(profile)
profile.plot()

# %% [markdown]
# ## Inside the recognizer
#
# A normalization can amplify a change. `blow_ups` measures by how much at most, layer by layer; `influences` how far
# one flipped bit moves the logit.

# %%
internals = recognizers.internals(config)
boolean.blow_up.blow_ups(internals)(variables, strings[:10]).plot()

# %%
boolean.blow_up.influences(internals, positions=[-1])(variables, strings[:10], sites=range(0, 30, 3)).plot()

# %% [markdown]
# ## Learned: does a trained network have the sensitivity of its language?
#
# `fit_many` trains many models of one shape at once; here four small networks, two of which learn majority and two
# parity, of 6 bits, from all 64 strings.


# %%
def network(variables, strings, mask=None):
    params = variables["params"]
    hidden = jnp.tanh((2.0 * strings - 1.0) @ params["first"] + params["bias"])
    return hidden @ params["last"]


def init(seed):
    first, bias, last = jax.random.split(jax.random.key(seed), 3)
    params = {"first": jax.random.normal(first, (6, 16)), "bias": jax.random.normal(bias, (16,))}
    return {"params": params | {"last": jax.random.normal(last, (16,)) / 4}}


languages = [boolean.languages.majority(6), boolean.languages.parity(6)]
everything = boolean.strings.exhaustive(6)
labels = np.stack([language.accept(everything) for language in languages]).astype(np.float32)

# %%
members = training.Members(learning_rate=[0.01] * 4, batch=[16] * 4, dataset=[0, 0, 1, 1])
config = training.ManyConfig(epochs=100, target_accuracy=1.0)
start = training.stack([init(seed) for seed in range(4)])
trained = training.fit_many(jax.random.key(0), network, start, members, (np.stack([everything] * 2), labels), config)
print("largest accuracy", np.nanmax(trained.history["accuracy"], 1).round(2))
trained.plot()

# %% [markdown]
# All strings are measured, so the profiles are exact: numbers of strings with sensitivity 0 to 6.

# %%
measure = boolean.sensitivity_profile(jaxsens.one_at_a_time(network))
for language, number in zip(languages, (0, 2), strict=True):
    learned = measure(jax.random.key(0), trained.member(number), everything)
    print(f"{language.name:9} learned {learned.scaled}, of the language {language.profile()}")

# %% [markdown]
# How far does noise on the weights move the logit, relative to the distance that the weights move?

# %%
quotients = boolean.lipschitz.lipschitz_quotients(network, perturb.gaussian(1e-4), draws=10)
quotients(jax.random.key(3), trained.member(0), everything)
