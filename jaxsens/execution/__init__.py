"""How programs run: on which devices and processes, how much at once, and what that costs.

``execution`` is the value that every estimator takes. ``parallel`` maps a function over items, ``resident`` updates a
state that stays on the devices, and ``backends`` is the only file that uses devices. ``dry_run`` compiles or notes
programs without running them. ``processes`` joins several processes, and ``gathering`` shares work among them.
``memory`` chooses how much is evaluated at once, ``precision`` knows the products that each platform offers, ``flops``
counts operations, ``batches`` cuts data into batches, and ``keys``, ``checks`` and ``independence`` check what enters a
measure.
"""

from jaxsens.execution.execution import Execution
from jaxsens.execution.independence import require_independent
from jaxsens.execution.keys import require_key
from jaxsens.execution.parallel import bind, map_items
from jaxsens.execution.precision import precision_errors
from jaxsens.execution.threads import fix_cpu_threads

__all__ = [
    "Execution",
    "bind",
    "fix_cpu_threads",
    "map_items",
    "precision_errors",
    "require_independent",
    "require_key",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
