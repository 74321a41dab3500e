"""How programs run: on which devices and processes, how much at once, and what that costs.

``parallel`` is the only file that knows devices, ``processes`` joins several processes, ``memory`` chooses how much is
evaluated at once, ``flops`` counts operations, and ``batches`` cuts data into batches.
"""

from jaxsens.execution.parallel import map_items

__all__ = ["map_items"]
