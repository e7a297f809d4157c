"""The names of occlusions."""

import pytest
import torch

from attnchain_evals.perturbation.occlusion import NAMED, Blur, MeanColour, Occlusion, ReplaceWith, occlusion_named
from attnchain_interp import AttentionError


def test_an_occlusion_is_found_by_its_name() -> None:
    assert all(occlusion_named(name) is occlusion and occlusion.name == name for name, occlusion in NAMED.items())
    assert {axis for occlusion in NAMED.values() for axis in occlusion.axes} == {2, 4}
    blur = Blur(2.0)
    assert occlusion_named(blur) is blur
    with pytest.raises(AttentionError, match="(?s)occlusion='fog' is unknown.*Use 'mean'"):
        occlusion_named("fog")


def test_a_function_is_an_occlusion() -> None:
    found = occlusion_named(torch.zeros_like)
    assert isinstance(found, ReplaceWith)
    assert not found(torch.ones(1, 3, 2, 2)).any()


def test_an_occlusion_needs_a_view() -> None:
    with pytest.raises(TypeError, match="over"):
        type("Half", (Occlusion,), {})()
    assert MeanColour() == MeanColour()
