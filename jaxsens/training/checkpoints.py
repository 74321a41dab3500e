"""Checkpoints: the only file that imports Orbax.

In several processes all call these together, with equal states; the first writes, in a folder that all of them see.
"""

import os
import re
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as orbax

from jaxsens.execution import processes
from jaxsens.typing import PyTree

__all__ = ["restore", "save"]


def save(folder: Path, step: int, state: PyTree) -> None:
    """Write a pytree of arrays as checkpoint number ``step``, whole or not at all, and then drop the older ones.

    Orbax writes under a temporary name and renames: a checkpoint whose writer was killed is never seen again.

    Raises:
        OSError: If the folder cannot be written, as on a full disk; the checkpoints that are there stay.
    """
    newest_only = orbax.training.preservation_policies.LatestN(1)
    try:
        with orbax.training.Checkpointer(folder.absolute(), preservation_policy=newest_only) as checkpointer:
            # From the host: Orbax takes arrays on the devices of one process for a mistake where there are several.
            leaves = {name: np.asarray(leaf) for name, leaf in _named_leaves(state).items()}
            checkpointer.save(step, leaves, force=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _named(error, step, folder) from error


def restore(folder: Path, like: PyTree) -> tuple[int, PyTree] | None:
    """Read the newest checkpoint: its number and its pytree, or None if there is none.

    Args:
        folder: Where ``save`` wrote.
        like: A pytree of arrays; the result has its structure, shapes and dtypes, and lies on its devices.

    Raises:
        ValueError: If the checkpoint has other leaves, shapes or dtypes; the first that differs is named.
    """
    if not processes.from_first(lambda: b"there" * folder.is_dir()):
        return None
    wanted = {name: _abstract(leaf) for name, leaf in _named_leaves(like).items()}
    with orbax.training.Checkpointer(folder.absolute()) as checkpointer:
        if checkpointer.latest is None:
            return None
        step = checkpointer.latest.step
        found = checkpointer.metadata(step).metadata
        for name in sorted(wanted.keys() | found.keys()):
            a, b = (_describe(leaves.get(name)) for leaves in (wanted, found))
            if a != b:
                raise ValueError(f"checkpoint {step} in {folder} has {name} = {b}, but {a} is needed")
        leaves = checkpointer.load(step, wanted)
    return step, jax.tree.structure(like).unflatten([leaves[name] for name in wanted])


def _named(error: Exception, step: int, folder: Path) -> Exception:
    """Return an error of the operating system as what it is: Orbax's storage wraps it into those of other types."""
    code, cause = None, error
    while code is None and cause is not None:
        written = re.search(r"os_error_code='(\d+)'|\[Errno (\d+)\]", str(cause))
        code = getattr(cause, "errno", None) or (written and int(written[1] or written[2]))
        cause = cause.__cause__ or cause.__context__
    if code is None:
        return error
    return OSError(
        code,
        f"{os.strerror(code)}, while writing checkpoint {step} to '{folder}': the last whole checkpoint there is "
        "safe; make room, and the same call goes on from it",
    )


def _named_leaves(tree: PyTree) -> dict[str, jax.Array]:
    """Return the leaves by path: a flat dictionary means the same to every version of Orbax, Optax and Flax."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _describe(leaf: object) -> str:
    return "no entry" if leaf is None else f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
