# %% [markdown]
# # Many devices
#
# Every measure uses all devices of the process by default. This notebook shows eight virtual ones on a CPU; with GPUs
# or TPUs leave out the line that makes them.
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

# %% [markdown]
# The number of virtual devices must be set before JAX starts.

# %%
import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import numpy as np

import jaxsens
from jaxsens import Execution, perturb, training
from jaxsens.data import images

jax.devices()

# %% [markdown]
# ## One function over many items
#
# `map_items` is what all measures use. Items are cut into chunks, and a device evaluates whole chunks. The program is
# the same for any number of devices, and so are the results, to the bit.


# %%
def simulate(seed, scale):
    return scale * jax.random.normal(jax.random.key(seed), (100,)).max()


seeds = np.arange(1000)
results = {
    count: jaxsens.map_items(
        simulate, seeds, np.float32(2), execution=Execution(chunk=25, devices=jax.devices()[:count])
    )
    for count in (1, 2, len(jax.devices()))
}
print({count: float(values.mean()) for count, values in results.items()})
print("equal to the bit:", all(np.array_equal(values, results[1]) for values in results.values()))

# %% [markdown]
# ## A measure on one device, and on all
#
# `Execution` says how a measure runs: `chunk`, the number of evaluations at once on a device; `devices`; `precision` of
# matrix products; `progress`, a label for a progress bar. None of them changes which noise is drawn.

# %%
digits = images.load("digits")
tokens = images.to_patches(images.normalize(digits.test_images[:96]), patch=2)
first, last, key = jax.random.split(jax.random.key(0), 3)
params = {"first": jax.random.normal(first, (64, 32)) / 8, "last": jax.random.normal(last, (32, 10)) / 6}


def apply(params, tokens, mask=None):
    return jax.nn.relu(tokens.reshape(len(tokens), -1) @ params["first"]) @ params["last"]


def measure(**execution):
    noise, how = perturb.gaussian(variance=1.0), Execution(chunk=68, **execution)
    return jaxsens.token_sensitivity(jaxsens.one_at_a_time(apply), noise, draws=2, execution=how)


alone = measure(devices=jax.devices()[:1])(key, params, tokens)
together = measure(progress="sensitivity")(key, params, tokens)
print("equal to the bit:", np.array_equal(alone.changes, together.changes))
together

# %% [markdown]
# ## A data set in parts
#
# `index` gives examples their numbers in the whole, which decide their noise. Jobs that share a data set therefore
# measure what one job would.

# %%
parts = [measure()(key, params, tokens[part], index=part) for part in np.split(np.arange(96), 3)]
print("equal to the bit:", np.array_equal(np.concatenate([part.changes for part in parts]), together.changes))

# %% [markdown]
# ## Many models at once
#
# `over_models` measures stacked models in one launch, all with the same noise.

# %%
stacked = training.stack([params, jax.tree.map(lambda leaf: 3 * leaf, params)])
small, large = measure().over_models(key, stacked, tokens)
print(small, large, sep="\n")

# %% [markdown]
# ## Low precision where it is certain
#
# Accelerators multiply matrices faster in low precision. `jaxsens.screened_token_sensitivity` takes the arguments of
# `token_sensitivity`. It accepts a decision of low precision where the margin exceeds the measured error, recomputes
# the others in float32, and audits a sample of those accepted.

# %% [markdown]
# ## Several processes
#
# On a cluster or a TPU pod each process runs the same program, and `map_items` distributes the items over all of them:
#
#     srun --nodes 2 --ntasks-per-node 1 python -m experiments.vision --preset paper    # a process uses all GPUs
#     scripts/launch --processes 2 -- python -m experiments.vision --preset smoke       # to try it on one machine
#
# A program of your own calls `jaxsens.execution.processes.join()` before its first computation.
