"""How programs run: on which devices and processes, how much at once, and what that costs.

``execution`` is the value that every estimator takes. ``parallel`` is the only file that knows devices, ``processes``
joins several processes, ``memory`` chooses how much is evaluated at once, ``flops`` counts operations, and ``batches``
cuts data into batches.
"""

from jaxsens.execution.execution import Execution
from jaxsens.execution.parallel import bind, map_items

__all__ = ["Execution", "bind", "map_items"]
