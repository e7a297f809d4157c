"""The settings of the published formulas, for tests of methods whose own defaults follow real models."""

from typing import Any, Final

MEAN: Final[dict[str, Any]] = {"layers": "all", "layer_weights": "mean", "balanced": False}
"""The plain mean of all layers and heads."""

PLAIN: Final[dict[str, Any]] = MEAN | {"maps": "attention"}
"""`MEAN` of attention, for methods that also read contributions."""
