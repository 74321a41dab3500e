# %% [markdown]
# # Quickstart: your own model
#
# How often does the prediction of a model change when one token of its input is perturbed? This notebook measures
# that *token sensitivity* for a small classifier of digits. A token is a patch of 2 x 2 pixels here.
#
# In Colab, the first cell installs jaxsens: set `URL` to the address that you clone the repository from. Elsewhere the
# cell does nothing.

# %%
import importlib.util
import subprocess
import sys

URL = "URL"  # such as https://HOST/OWNER/REPOSITORY
if importlib.util.find_spec("jaxsens") is None and "google.colab" in sys.modules:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"jaxsens[demo,pandas] @ git+{URL}"], check=True)

# %% [markdown]
# ## Data and model
#
# The UCI digits come with scikit-learn. `to_patches` cuts an image into tokens, `[examples, tokens, features]`.

# %%
import jax

import jaxsens
from jaxsens import changes, perturb, training
from jaxsens.data import images

digits = images.load("digits")
train, test = (images.to_patches(images.normalize(i), patch=2) for i in (digits.train_images, digits.test_images))
print("training tokens", train.shape, "test tokens", test.shape)
digits.plot(count=16)

# %% [markdown]
# A model is a function `apply(params, tokens)` that returns logits `[examples, classes]`. `params` is any pytree of
# arrays. How the model is trained does not matter; here `training.fit` trains it.


# %%
def apply(params, tokens, mask=None):
    return jax.nn.relu(tokens.reshape(len(tokens), -1) @ params["first"]) @ params["last"]


def train_apply(variables, tokens, key):
    return apply(variables["params"], tokens), variables


first, last, key = jax.random.split(jax.random.key(0), 3)
start = {"first": jax.random.normal(first, (64, 128)) / 8, "last": jax.random.normal(last, (128, 10)) / 11}
config = training.Config(epochs=15, learning_rate=3e-3)
trained = training.fit(key, train_apply, {"params": start}, train, digits.train_labels, config)
params = trained.variables["params"]
print("test accuracy", float((apply(params, test).argmax(1) == digits.test_labels).mean()))
trained.plot()

# %% [markdown]
# ## Token sensitivity
#
# `one_at_a_time` evaluates the model with each token replaced in turn. `perturb.gaussian` adds noise to the token, and
# five draws are made for every token of every image. The result prints as one line, and shows as a table here.

# %%
substitute = jaxsens.one_at_a_time(apply)
measure = jaxsens.token_sensitivity(substitute, perturb.gaussian(variance=1.0), draws=5)
result = measure(key, params, test)
result

# %% [markdown]
# The estimate is the share of predictions that change. The 95 % interval is over images, which are independent; the
# noise on tokens of one image is not.
#
# `plot` draws the sensitivity of every position of the image, with intervals that hold for all positions at once.

# %%
result.plot()

# %% [markdown]
# Or the sensitivity of one image, over the image. This is the image whose prediction changes most often.

# %%
most = int(result.per_example.argmax())
result.plot(example=most, image=digits.test_images[most], patch=2)

# %% [markdown]
# ## Compare two models
#
# Did training change the sensitivity? The same key gives both models the same noise, so `minus` compares them image by
# image, and its interval is that of the paired difference.

# %%
untrained = measure(key, start, test)
print(f"trained {result:.3f}, untrained {untrained:.3f}")
result.minus(untrained)

# %% [markdown]
# ## Other perturbations, other changes
#
# A perturbation is a function `(key, draw, tokens)` that returns a replacement for every token. `jaxsens.perturb` has
# several; here the patch at the same place of another image.

# %%
other_patch = jaxsens.token_sensitivity(substitute, perturb.other_example(test))
other_patch(key, params, test)

# %% [markdown]
# A change is a function of the outputs before and after: here the Euclidean distance of the logits, in place of the
# question whether the prediction differs.

# %%
distance = jaxsens.token_sensitivity(substitute, perturb.gaussian(variance=1.0), change=changes.euclidean_change)
distance(key, params, test)

# %% [markdown]
# ## Fewer evaluations
#
# All tokens of all 1,437 training images take 1,437 x 17 evaluations of the model for each draw. A sample of images and
# tokens is enough for a standard error of your choice: a small pilot decides how many of each are needed.

# %%
sample = jaxsens.sampled_token_sensitivity(substitute, perturb.gaussian(variance=1.0), target_sem=0.01, pilot=100)
sampled = sample(key, params, train)
print("evaluations", sampled.forwards, "in place of", len(train) * 17)
sampled

# %% [markdown]
# ## Keep the numbers
#
# Results are saved without pickle and loaded equal to the bit. `to_pandas` returns a tidy table: a row for each image
# and token.

# %%
result.save("sensitivity.npz")
print(jaxsens.load("sensitivity.npz"))
result.to_pandas().head()

# %% [markdown]
# ## Models of other libraries
#
# `jaxsens.from_nnx`, `from_linen`, `from_equinox` and `from_pretrained` return `(apply, params)` of a model in
# evaluation mode, for use as above: `apply, params = jaxsens.from_nnx(model)`.
#
# The other notebooks: `images`, `text`, `sharpness_and_curvature`, `boolean_functions`, `many_devices`.
