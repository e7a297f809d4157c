"""The collector of contributions: what it refuses, and the shares that it keeps."""

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.capture import ContributionCollector, Expected

TEXT = ac.TokenLayout.text(torch.ones(1, 4))


def test_shares_of_a_model_name_their_measure() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, dropout=0).eval()
    store = ac.capture_contributions(model, torch.randn(1, 4, 8), measure="norm")
    assert store.metadata["measure"] == "norm"
    assert store.maps().shape == (1, 1, 1, 4, 4)
    assert torch.allclose(store.maps().sum(-1), torch.ones(()))


def test_what_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="(?s)measure='size' is unknown.*'alti'"):
        ContributionCollector("size")  # type: ignore[arg-type]
    collector = ContributionCollector("alti")
    with pytest.raises(ac.AttentionError, match="(?s)this is attention to other tokens.*Capture its maps"):
        collector.expect(Expected(TEXT, 1, 1, False, TEXT))
    collector.expect(Expected(TEXT, 1, 1, False))
    with pytest.raises(ac.AttentionError, match="layer 'a' showed its attention alone"):
        collector.take("a", torch.zeros(1, 1, 4, 4))
    with pytest.raises(ac.AttentionError, match="contributions need a model that an adapter recognises; got str"):
        ac.capture_contributions("model")
