"""Checkpoints of a training: written completely or not at all, and read only by the training that wrote them.

This is the only file that imports Orbax. In several processes all call these functions together, with equal states; the
first process writes, in a folder that all of them see.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as orbax

from jaxsens.execution import processes
from jaxsens.typing import PyTree

__all__ = ["digest", "fingerprint", "restore", "save"]

_LONGEST_SETTING = 200


def fingerprint(settings: Mapping[str, object], arrays: Mapping[str, PyTree]) -> dict[str, str]:
    """Return what identifies a training: its settings as text, and digests of its arrays.

    Args:
        settings: By name; each is described by its ``repr`` without memory addresses, or by a digest if that is long.
        arrays: Pytrees of arrays by name.

    Example:
        >>> fingerprint({"epochs": 3}, {"labels": np.arange(3)})["epochs"]
        '3'
    """
    described = {name: re.sub(r" at 0x[0-9a-f]+", "", repr(value)) for name, value in settings.items()}
    for name, text in described.items():
        if len(text) > _LONGEST_SETTING:
            described[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return described | {name: digest(tree) for name, tree in arrays.items()}


def digest(tree: PyTree) -> str:
    """Return a hash of a pytree's paths, dtypes, shapes and values.

    Example:
        >>> digest({"w": np.zeros(3)}) == digest({"w": np.zeros(3)})
        True
    """
    total = hashlib.sha256()
    for name, leaf in _named_leaves(tree).items():
        values = np.ascontiguousarray(leaf)
        total.update(f"{name} {values.dtype} {values.shape};".encode())
        total.update(values.reshape(-1).view(np.uint8))
    return total.hexdigest()[:16]


def save(folder: Path, step: int, state: PyTree, identity: Mapping[str, str] | None = None) -> None:
    """Write a pytree of arrays as checkpoint number ``step``, whole or not at all, and then delete the older ones.

    Orbax writes under a temporary name and renames, so a checkpoint that was not finished is never read.

    Args:
        folder: Where checkpoints are kept.
        step: The number of the checkpoint.
        state: A pytree of arrays and typed random keys.
        identity: What ``fingerprint`` returned, which ``restore`` compares.

    Raises:
        OSError: If the folder cannot be written, as on a full disk; the checkpoints that are there stay.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder), 3, {"w": jnp.ones(2)})
        ...     step, state = restore(Path(folder), {"w": np.zeros(2, np.float32)})
        >>> step, state["w"].tolist()
        (3, [1.0, 1.0])
    """
    newest_only = orbax.training.preservation_policies.LatestN(1)
    try:
        with orbax.training.Checkpointer(folder.absolute(), preservation_policy=newest_only) as checkpointer:
            # From the host: with several processes Orbax refuses arrays on the devices of one process.
            leaves = {name: np.asarray(leaf) for name, leaf in _named_leaves(state).items()}
            notes = {"fingerprint": dict(identity or {}), "digest": digest(state)}
            checkpointer.save(step, leaves, force=True, custom_metadata=notes)
    except (OSError, ValueError, RuntimeError) as error:
        raise _system_error(error, step, folder) from error


def restore(folder: Path, like: PyTree, identity: Mapping[str, str] | None = None) -> tuple[int, PyTree] | None:
    """Read the newest checkpoint: its number and its pytree, or None if there is none.

    Args:
        folder: Where ``save`` wrote.
        like: A pytree of arrays; the result has its structure, shapes and dtypes, and lies on its devices (NumPy
            arrays: on the first device of this process).
        identity: What ``fingerprint`` returned for this training; None accepts the checkpoint of any training.

    Raises:
        ValueError: If the checkpoint was written by another training, naming the first setting that differs; if it has
            other leaves, shapes or dtypes; or if it is damaged. The folder to delete is named.

    Example:
        >>> restore(Path("no/such/folder"), {"w": np.zeros(3)}) is None
        True
    """
    if not processes.from_first(lambda: b"there" * folder.is_dir()):
        return None
    expected = {name: _abstract(leaf) for name, leaf in _named_leaves(like).items()}
    step = None
    try:
        with orbax.training.Checkpointer(folder.absolute()) as checkpointer:
            if checkpointer.latest is None:
                _require_no_remains(folder)
                return None
            step = checkpointer.latest.step
            metadata = checkpointer.metadata(step)
            notes = metadata.custom_metadata or {}
            if "fingerprint" not in notes or metadata.metadata is None:
                raise ValueError("it does not say which training wrote it")
            _require_same(folder, step, identity, notes["fingerprint"])
            _require_leaves(folder, step, expected, metadata.metadata)
            leaves = checkpointer.load(step, expected)
            state = jax.tree.structure(like).unflatten([leaves[name] for name in expected])
            if notes.get("digest") != digest(state):
                raise ValueError("its values are not those that were written")
    except _OtherTraining:
        raise
    except Exception as error:  # Orbax and its storage raise errors of many types for damaged files
        number = "" if step is None else f" {step}"
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise ValueError(
            f"checkpoint{number} in '{folder}' is damaged ({reason}): delete that folder to train from the start"
        ) from error
    return step, jax.tree.map(_as_key, like, state)


class _OtherTraining(ValueError):
    """The checkpoint is whole, but it belongs to another training."""


def _require_same(folder: Path, step: int, identity: Mapping[str, str] | None, written: Mapping[str, str]) -> None:
    for name in sorted((identity or {}).keys() | written.keys()) if identity is not None else ():
        before, now = written.get(name, "not recorded"), identity.get(name, "absent")
        if before != now:
            raise _OtherTraining(
                f"checkpoint {step} in '{folder}' was written by another training: {name} was {before} and is {now} "
                "now; give another folder, or delete that one to train from the start"
            )


def _require_leaves(folder: Path, step: int, expected: Mapping[str, Any], written: Mapping[str, Any]) -> None:
    for name in sorted(expected.keys() | written.keys()):
        needed, stored = (_describe(leaves.get(name)) for leaves in (expected, written))
        if needed != stored:
            raise _OtherTraining(
                f"checkpoint {step} in '{folder}' has {name} = {stored}, but {needed} is needed; give another folder, "
                "or delete that one to train from the start"
            )


def _require_no_remains(folder: Path) -> None:
    """Raise ValueError if there are numbered folders that Orbax does not recognize as checkpoints."""
    remains = sorted(path.name for path in folder.iterdir() if path.name.isdecimal())
    if remains:
        raise ValueError(f"{remains[-1]} is there, but it is no whole checkpoint")


def _system_error(error: Exception, step: int, folder: Path) -> Exception:
    """Return the error of the operating system that Orbax's storage has wrapped, if there is one."""
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
        "safe; make room, and the same call continues from it",
    )


def _named_leaves(tree: PyTree) -> dict[str, jax.Array]:
    """Return the leaves by path, typed keys as numbers.

    A flat dictionary means the same to every version of Orbax, Optax and Flax.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jax.random.key_data(a) if _is_key(a) else a for path, a in leaves}


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_key(like: Any, leaf: Any) -> Any:
    return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(like)) if _is_key(like) else leaf


def _abstract(leaf: jax.Array | np.ndarray) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jnp.zeros(()).sharding  # NumPy: where JAX puts arrays
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _describe(leaf: object) -> str:
    return "no entry" if leaf is None else f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
