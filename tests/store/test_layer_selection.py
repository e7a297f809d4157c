"""The selection of layers by name and number."""

from typing import Any

import pytest
import torch

from attnchain_interp import AttentionError
from attnchain_interp.store import select_layers
from attnchain_interp.store.layer_selection import layer_name

NAMES = ["blocks.0", "blocks.1", "head"]


def test_selections() -> None:
    assert select_layers(NAMES, "all") == NAMES
    assert select_layers(NAMES, -1) == select_layers(NAMES, "head") == ["head"]
    assert select_layers(NAMES, slice(2)) == ["blocks.0", "blocks.1"]
    assert select_layers(NAMES, [2, "blocks.0", -1]) == ["head", "blocks.0"], "each once, in the order asked for"
    assert layer_name(NAMES, -3) == "blocks.0"
    with pytest.raises(AttentionError, match="layers=.* selects none of the 3 layers"):
        select_layers(NAMES, slice(3, None))
    with pytest.raises(AttentionError, match="layer True does not exist; there are 3, numbered 0 to 2"):
        layer_name(NAMES, True)


@pytest.mark.parametrize("layer", [slice(2), 1.0, None, torch.nn.Linear(2, 2)], ids=lambda layer: type(layer).__name__)
def test_a_layer_that_is_neither_name_nor_number_is_refused(layer: Any) -> None:
    with pytest.raises(
        AttentionError, match="layer is of type [a-zA-Z]+; it must be a name or a number.\nThe layers are blocks.0,"
    ):
        layer_name(NAMES, layer)
