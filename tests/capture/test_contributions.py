"""`capture_contributions`: shares by each measure."""

import pytest
import torch
from torch import nn

import attnchain_interp as ac


def test_shares_of_a_model_name_their_measure() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, dropout=0).eval()
    store = ac.capture_contributions(model, torch.randn(1, 4, 8), measure="norm")
    assert store.metadata["maps"] == "norm"
    assert store.maps().shape == (1, 1, 1, 4, 4)
    assert torch.allclose(store.maps().sum(-1), torch.ones(()))


def test_what_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="contributions need a model that an adapter recognises; got str"):
        ac.capture_contributions("model")
    with pytest.raises(ac.AttentionError, match="(?s)measure='size' is unknown.*'alti'"):
        ac.capture_contributions(nn.Identity(), measure="size")  # type: ignore[arg-type]
