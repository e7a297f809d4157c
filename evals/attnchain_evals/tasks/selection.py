"""A selection of the examples of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from attnchain_evals.tasks.examples import data_identity


@final
@dataclass(frozen=True)
class Selection:
    """The examples of these numbers, in this order.

    Attributes:
        data: a sequence of examples, with an `identity`.
        numbers: of the examples in the data.
    """

    data: Any
    numbers: Sequence[int]

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": "Selection", "numbers": list(self.numbers), "of": data_identity(self.data)}

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Any:
        return self.data[self.numbers[index]]
