"""Products with an attention map that need not exist: dense maps, and maps that are held as queries and keys."""

from attnchain_interp.operators.factors import Factors
from attnchain_interp.operators.operator import Dense, Operator, float32_or_wider, full_precision, wide_dtype

__all__ = ["Dense", "Factors", "float32_or_wider", "full_precision", "Operator", "wide_dtype"]
