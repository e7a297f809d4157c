"""What the tests of the adapters have proved, family by family: the table of docs/models.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pytest

PAGE_TEST: Final = "test_models_page"


@dataclass
class Proved:
    """A family that passed the contract, or is refused.

    Attributes:
        kinds: what can be asked of it, in its own order.
        routes: how its attention came.
        remark: or the reason why it is refused.
    """

    kinds: list[str] = field(default_factory=list)
    routes: set[str] = field(default_factory=set)
    remark: str = ""


class Proofs(dict[tuple[str, str], Proved]):
    """By framework and family."""


_PROOFS: Final = Proofs()


@pytest.fixture(scope="session")
def proofs() -> Proofs:
    return _PROOFS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The page is compared after everything else has been proved."""
    items.sort(key=lambda item: PAGE_TEST in item.nodeid)
