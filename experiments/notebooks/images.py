# %% [markdown]
# # Images: which patches matter to a transformer and to a convolutional network?
#
# Two classifiers of digits, one of this library and one of your own, are trained for a few seconds. Then one patch of
# 2 x 2 pixels at a time gets noise.
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
from flax import nnx

import jaxsens
from jaxsens import models, perturb, plots, training
from jaxsens.data import images

digits = images.load("digits")
train, test = (images.to_patches(images.normalize(i), patch=2) for i in (digits.train_images, digits.test_images))
key = jax.random.key(0)
digits

# %% [markdown]
# CIFAR-10, Fashion-MNIST, SVHN and ImageNet are loaded in the same way, `images.load("cifar10", data_dir=...)`, from a
# folder of TensorFlow Datasets.
#
# ## A vision transformer of this library
#
# Modules are Flax Linen. `models.MODELS` has ViTs, MLP, CNN, ConvMixer, ConvNeXt, ResNet and DenseNet.

# %%
sizes = {"width": 32, "depth": 1, "heads": 4, "hidden": 64}
vit = models.vit.ViT(models.vit.Config(image_shape=digits.image_shape, classes=10, patch=2, **sizes))
config = training.Config(epochs=5, batch=25, learning_rate=3e-3)
fitted = training.fit(key, models.train_apply(vit), models.init(vit, key), train, digits.train_labels, config)
fitted.plot()

# %% [markdown]
# ## A convolutional network of your own
#
# A model of images `[b h w c]` becomes one of patches by `from_images`; `from_nnx` makes a pure function of a module in
# Flax NNX.


# %%
class ConvNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.out = nnx.Linear(16 * 16, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.max_pool(nnx.relu(self.conv(images)), (2, 2), strides=(2, 2))
        return self.out(x.reshape(len(x), -1))


apply, start = jaxsens.from_nnx(ConvNet(nnx.Rngs(0)))
apply = jaxsens.from_images(apply, patch=2)


def train_apply(variables, tokens, key):
    return apply(variables["params"], tokens), variables


own = training.fit(key, train_apply, {"params": start}, train, digits.train_labels, config)
params = own.variables["params"]
correct = training.accuracy(apply, params, test, digits.test_labels)
print(f"test accuracy of the CNN {correct.mean():.3f}")
own.plot()

# %% [markdown]
# ## Token sensitivity of both
#
# `one_at_a_time` works for any model. For larger transformers and convolutional networks of this library
# `models.substitution` has faster primitives with equal results. Both models see the same noise.

# %%
some = test[:100]
noise = perturb.gaussian(variance=1.0)
of_vit = jaxsens.token_sensitivity(jaxsens.one_at_a_time(models.evaluation(vit)), noise, draws=3)(
    key, fitted.variables, some
)
of_cnn = jaxsens.token_sensitivity(jaxsens.one_at_a_time(apply), noise, draws=3)(key, params, some)
results = {"ViT": of_vit, "CNN": of_cnn}
bars = {name: (result.mean, *result.interval()) for name, result in results.items()}
plots.bars_with_intervals(bars, dataset="UCI digits", sample="100 test images, 3 draws")

# %% [markdown]
# The difference is paired over images. Its interval says whether one model of each kind differs; a statement about the
# two *kinds* of model takes several trained models of each, as in `experiments/vision`.

# %%
of_vit.minus(of_cnn)

# %% [markdown]
# Maps of the image whose prediction changes most often:

# %%
most = int((of_vit.per_example + of_cnn.per_example).argmax())
maps = {name: result.values[most] for name, result in results.items()}
plots.token_map(digits.test_images[most], maps, 2, dataset="UCI digits", sample="one test image, 3 draws")

# %% [markdown]
# ## Regions in place of patches
#
# Tokens of a group change together: here the four rows of patches.

# %%
rows = jaxsens.sensitivity.Groups([0] * 4 + [1] * 4 + [2] * 4 + [3] * 4)
by_row = jaxsens.token_sensitivity(jaxsens.one_at_a_time(apply), noise)(key, params, some, sites=rows)
by_row.plot()
