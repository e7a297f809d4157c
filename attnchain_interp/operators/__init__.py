"""Products with an attention map that need not exist: dense maps, and maps that are held as queries and keys."""

from attnchain_interp.operators.factors import Factors
from attnchain_interp.operators.operator import Operator

__all__ = [
    "Factors",
    "Operator",
]
