"""The sequences of tokens in a denoiser, and which of them is meant."""

import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.diffusers_models.sequences import TokenSequence, layouts_of, sequence_meant, sequences_of

from ...tiny_pipelines import unet

COARSE, FINE, TEXT = (TokenSequence(kind, grid) for kind, grid in (("self", (2, 2)), ("self", (4, 4)), ("cross", (4, 4))))  # type: ignore[arg-type]


def test_a_unet_has_two_kinds_on_every_grid() -> None:
    given = {"sample": torch.zeros(1, 4, 16, 16), "encoder_hidden_states": torch.zeros(1, 5, 32)}
    found = sequences_of(unet(), given)
    assert {(each.kind, each.grid) for each in found} == {
        (kind, grid) for kind in ("self", "cross") for grid in ((16, 16), (8, 8))
    }
    assert all(name.endswith("attn2") == (each.kind == "cross") for each in found for name in each.layers)
    tokens, queries = layouts_of(unet(), next(each for each in found if each.kind == "cross"), given, [list("abcde")])
    assert tokens.labels == [list("abcde")]
    assert queries is not None
    assert queries.grid in ((16, 16), (8, 8))
    with pytest.raises(ac.AttentionError, match="2 labels for 5 text tokens"):
        layouts_of(unet(), next(each for each in found if each.kind == "cross"), given, [["a", "b"]])


def test_layers_are_numbered_in_the_order_in_which_the_model_runs_them() -> None:
    model, call = unet(), {"timestep": 3, "encoder_hidden_states": torch.randn(1, 5, 32)}
    which, sample = ac.Reading(kind="self", grid=(8, 8)), torch.randn(1, 4, 16, 16)
    store = ac.capture(model, sample, reading=which, **call)
    assert [name.split(".")[0] for name in store.names] == ["down_blocks", "mid_block", "up_blocks", "up_blocks"]
    for number, name in enumerate(store.names):
        assert ac.capture(model, sample, reading=which, layers=number, **call).names == [name]


def test_which_sequence_is_meant() -> None:
    assert sequence_meant([FINE, TEXT], "UNet", None, None) is FINE, "cross-attention is not meant unless it is named"
    assert sequence_meant([COARSE, FINE, TEXT], "UNet", "self", (2, 2)) is COARSE
    assert sequence_meant([COARSE, FINE, TEXT], "UNet", "self", [2, 2]) is COARSE  # type: ignore[arg-type]
    assert sequence_meant([COARSE, FINE, TEXT], "UNet", "cross", None) is TEXT


def test_none_and_several_are_refused() -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)several sequences.*Say which is meant: kind=\"self\", grid=\(2, 2\)"):
        sequence_meant([COARSE, FINE], "UNet", None, None)
    with pytest.raises(ac.AttentionError, match=r"UNet has no attention of kind='joint', grid=\(2, 2\)"):
        sequence_meant([COARSE, FINE], "UNet", "joint", (2, 2))
