# %% [markdown]
# # Sharpness and curvature
#
# How much do the loss and the predictions of a trained model change when its *weights* are perturbed, and what does the
# Hessian of the loss look like? Everything here works for a function `apply(params, inputs)` with any pytree `params`.
#
# In Colab, the first cell installs jaxsens: set `URL` to the address that you clone the repository from. Elsewhere the
# cell does nothing.

# %%
import importlib.util
import subprocess
import sys

URL = "URL"  # such as https://HOST/OWNER/REPOSITORY
if importlib.util.find_spec("jaxsens") is None and "google.colab" in sys.modules:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"jaxsens[demo] @ git+{URL}"], check=True)

# %%
import jax
import numpy as np

import jaxsens
from jaxsens import curvature, perturb, sharpness, training
from jaxsens.data import images
from jaxsens.sharpness.classification import CrossEntropy

# %% [markdown]
# A small network for the UCI digits, which come with scikit-learn.

# %%
digits = images.load("digits")
train, labels = images.normalize(digits.train_images).reshape(-1, 64), digits.train_labels


def apply(params, inputs):
    return jax.nn.relu(inputs @ params["first"]) @ params["last"]


def train_apply(variables, inputs, key):
    return apply(variables["params"], inputs), variables


first, last, key = jax.random.split(jax.random.key(0), 3)
start = {"first": jax.random.normal(first, (64, 16)) / 8, "last": jax.random.normal(last, (16, 10)) / 4}
fitted = training.fit(
    key, train_apply, {"params": start}, train, labels, training.Config(epochs=15, learning_rate=5e-3)
)
params, batch = fitted.variables["params"], (train[:300], labels[:300])
fitted

# %% [markdown]
# ## Random noise on the weights
#
# Four measures from the same draws: the rise of the loss (nats), the rise of the error, the change of the logits, and
# the share of predictions that change. The interval is over draws of the noise; data and model are fixed.

# %%
measure = jaxsens.classifier_sharpness(apply, perturb.gaussian(variance=0.05**2), draws=20)
for name, estimate in measure(key, params, batch).items():
    print(f"{name:11} {estimate:.3f}")

# %% [markdown]
# Each is also a measure of its own: `jaxsens.prediction_sharpness` and `jaxsens.output_sharpness` need no labels, and
# `average_sharpness` takes any loss.

# %%
jaxsens.output_sharpness(apply, perturb.gaussian(variance=0.05**2), draws=20)(key, params, train[:300])

# %% [markdown]
# ## The worst direction
#
# The largest rise of the loss within a ball around the weights, by gradient ascent: a lower bound of the maximum.

# %%
loss = CrossEntropy(apply)
worst = jaxsens.worst_case_sharpness(loss, radius=0.3, iterations=10)(key, params, batch)
worst.plot()

# %% [markdown]
# ## The Hessian
#
# `hessian_product` multiplies vectors by the Hessian without building it. Lanczos gives the largest eigenvalues; the
# bars are residuals, within which an eigenvalue is proven to lie.

# %%
hessian = curvature.hessian_product(loss)
top = curvature.top_eigenpairs(hessian, 4)(key, params, batch)
top.plot()

# %% [markdown]
# The trace, from products with random vectors. `xtrace` is the better estimator where few eigenvalues dominate;
# `trace`, Hutchinson's, costs half as much.

# %%
trace = curvature.xtrace(hessian, probes=20)(key, params, batch)
trace

# %% [markdown]
# For small noise the average rise of the loss is `variance / 2` times the trace. Antithetic pairs cancel the gradient.

# %%
variance = 1e-5
pairs = perturb.antithetic(perturb.gaussian(variance))
rise = jaxsens.average_sharpness(loss, pairs, draws=40)(key, params, batch)
print(f"rise of the loss {rise:.2e}, variance / 2 * trace {variance / 2 * trace.mean:.2e}")

# %% [markdown]
# The density of all eigenvalues, on a logarithmic axis: most are near 0.

# %%
density = curvature.spectral_density(hessian, probes=3, steps=30)
density(key, params, batch).plot()

# %% [markdown]
# ## Gauss-Newton and Fisher matrices
#
# `ggn_product` leaves out the curvature of the model itself; for cross-entropy it is the Fisher matrix.
# `fisher_product` is the empirical Fisher matrix, of gradients at the labels.

# %%
for name, product in {"GGN": curvature.ggn_product(apply), "Fisher": curvature.fisher_product(loss)}.items():
    print(f"{name:7} trace {curvature.trace(product, probes=20)(key, params, batch):.3g}")

# %% [markdown]
# ## The loss around the weights
#
# On the plane of the two top eigenvectors; the cross marks the weights. `sharpness.random_directions` draws
# filter-normalized directions, with which planes of several models can be compared.

# %%
steps = np.linspace(-1, 1, 9)
plane = sharpness.loss_plane(loss, steps, steps)
plane(params, [top.vector(0), top.vector(1)], batch).plot()
