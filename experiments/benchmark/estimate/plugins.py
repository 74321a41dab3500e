"""The compilers: plugins of JAX, found in a folder of their own, and described devices to compile for.

XLA compiles for a device that is described, without the device. The plugins are large (0.7 GB each) and are used by
nothing else here, so that they need not be installed beside this library.
"""

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["OPTIONS", "PLATFORMS", "install", "use"]

PLATFORMS = ("cuda", "tpu")

OPTIONS = {"cuda": {"xla_gpu_autotune_level": "0", "xla_gpu_enable_triton_gemm": False}, "tpu": {}}
"""Options of the compilers. Autotuning times kernels, which needs the device; products are then those of cuBLAS."""

_PROBES = {"cuda": ("jax_plugins/xla_cuda13", "nvidia/cu13/bin/ptxas", "nvidia/cu13/nvvm"), "tpu": ("libtpu",)}

_RATES = "rate_infos {{ key: {key} value {{ clock_rate_ghz: {clock} units_per_core: {units} ops_per_clock: {ops} }} }} "
_SCALAR = ((4, 64, 1), (8, 64, 1), (10, 128, 2), (11, 128, 1), (12, 64, 1), (16, 128, 2))
_MATRIX = ((2, 4, 1024), (6, 4, 1024), (10, 4, 512), (11, 4, 256), (12, 4, 32), (16, 4, 512), (19, 4, 1024))
_H100 = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448 cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  scalar_unit_description {{ {scalar} }} matrix_unit_description {{ {matrix} }}
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def install(platform: str) -> str:
    """Return the command that installs the compiler of a platform, for the version of JAX that is installed."""
    version = metadata.version("jaxlib")
    if platform == "cuda":
        wanted = [f"jax-cuda13-plugin=={version}", f"jax-cuda13-pjrt=={version}", "nvidia-cuda-nvcc", "nvidia-nvvm"]
    else:
        needed = metadata.requires("jax") or []
        wanted = [name.partition(";")[0].strip() for name in needed if name.startswith("libtpu")] or ["libtpu"]
    return f"pip install --no-deps --target DIR {' '.join(repr(name) for name in wanted)}"


def use(platform: str, folder: Path) -> Any:
    """Make a compiler known to JAX, which must not have been used before, and return the device to compile for.

    Raises:
        ValueError: If the folder lacks the compiler, or JAX has started without it; the message says what to install.
    """
    missing = [probe for probe in _PROBES[platform] if not (folder / probe).exists()]
    if missing:
        raise ValueError(
            f"the compiler for {platform} must be in the folder {folder}, which lacks {', '.join(missing)}: run\n"
            f"    {install(platform)}\nand pass --plugins DIR"
        )
    os.environ["JAX_PLATFORMS"] = "cpu"  # nothing is computed elsewhere, even where there is a device
    sys.path.insert(0, str(folder))
    if platform == "cuda":
        toolkit = folder / "nvidia" / "cu13"
        os.environ["PATH"] = f"{toolkit / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_cuda_data_dir={toolkit}".strip()
    else:
        os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")

    # Only now: JAX looks for plugins when it starts.
    from jax.experimental import topologies

    if platform == "cuda":
        topology = topologies.get_topology_desc("", platform, target_config=_target(), topology="1x1x1")
    else:
        topology = topologies.get_topology_desc("v5e:2x2", platform)
    return topology.devices[0]


def _target() -> str:
    """Return XLA's description of an H100 with 80 GB (SXM): NVIDIA's numbers of units, clocks and sizes."""

    def rates(units: tuple[tuple[int, int, int], ...], clock: float) -> str:
        return "".join(_RATES.format(key=key, clock=clock, units=count, ops=ops) for key, count, ops in units)

    return _H100.format(scalar=rates(_SCALAR, 1.98), matrix=rates(_MATRIX, 1.83))
