"""The checks that all adapters share."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_adapters.checks import (
    arguments_of,
    check_image,
    check_ready,
    check_shown,
    check_text,
    described,
    in_place_of,
    is_run_by,
    tokens_advice,
)


def test_a_model_that_is_not_ready() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    check_ready(model.eval())
    with pytest.raises(ac.AttentionError, match=r"(?s)train mode with dropout \(1\.p = 0\.5\).*Call model\.eval\(\) first"):
        check_ready(model.train())
    with torch.device("meta"), pytest.raises(ac.AttentionError, match="on the meta device"):
        check_ready(nn.Linear(2, 2))


def test_images_have_a_size() -> None:
    assert check_image("Model", torch.zeros(1, 3, 4, 6), None) == (4, 6)
    with pytest.raises(ac.AttentionError, match="the images are 4×6 but Model wants 8×8"):
        check_image("Model", torch.zeros(1, 3, 4, 6), (8, 8))
    with pytest.raises(ac.AttentionError, match=r"(?s)got torch.uint8 \(1, 3, 4, 6\).*of floating point, as"):
        check_image("Model", torch.zeros(1, 3, 4, 6, dtype=torch.uint8), None)
    with pytest.raises(ac.AttentionError, match=r"Pass images\[None\], a batch of one"):
        check_image("Model", torch.zeros(3, 4, 6), None)
    with pytest.raises(ac.AttentionError, match=r"(?s)channels last.*Pass images.permute\(0, 3, 1, 2\)"):
        check_image("Model", torch.zeros(1, 4, 6, 3), None)


def test_the_roles_of_text() -> None:
    ids, mask = torch.tensor([[1, 5, 6, 2], [0, 1, 5, 2]]), torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]])
    layout = check_text("Model", ids, mask, special=[1, 2], class_first=True)
    first, text, special, pad = ac.Role.CLASS, ac.Role.TEXT, ac.Role.SPECIAL, ac.Role.PAD
    assert layout.roles.tolist() == [[first, text, text, special], [pad, first, text, special]]
    with pytest.raises(ac.AttentionError, match="attention_mask must be a tensor of shape"):
        check_text("Model", ids, mask[:, 1:])
    with pytest.raises(ac.AttentionError, match="takes token numbers as an integer tensor"):
        check_text("Model", ids.float())


def test_an_encoding_is_passed_by_its_names() -> None:
    for given in ("a text", {"input_ids": torch.ones(1, 2)}):
        with pytest.raises(ac.AttentionError, match=r"by their names: \*\*tokenizer\(text"):
            check_text("Model", given)  # type: ignore[arg-type]


def test_layers_that_showed_nothing() -> None:
    check_shown({"a": 1, "b": 2}, ["a", "b"], "")
    with pytest.raises(ac.AttentionError, match="(?s)1 of 2 attention layers showed no map .*'b'.*Look elsewhere"):
        check_shown(["a"], ["a", "b"], "Look elsewhere.")


def test_arguments_by_name() -> None:
    x = torch.zeros(1)
    assert arguments_of(nn.Linear(1, 1), (), {"input": x})["input"] is x
    assert described(x) == "torch.float32 (1,)"
    assert described("x") == "str"


def test_arguments_of_a_method_have_the_names_of_the_method() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

        def features(self, images: Tensor, depth: int = 1) -> Tensor:
            return images * depth

    model, x = Model(), torch.ones(1)
    assert arguments_of(model, (x,), {}) == {"self": model, "x": x}
    assert arguments_of(model, (x, 2), {}, model.features) == {"self": model, "images": x, "depth": 2}
    assert arguments_of(model, (x,), {}, partial(model.forward)) == {"self": model, "x": x}
    assert is_run_by(model, "features", "timm", "images")
    assert not is_run_by(model, "features", "timm", "x")
    assert not is_run_by(model, "absent", "timm", "x")
    assert is_run_by(model, "forward", __name__.split(".")[0], "images")


def test_the_line_that_reads_a_model_by_what_it_computes() -> None:
    image = ac.TokenLayout.image(grid=(2, 3), class_token=True)
    assert tokens_advice(image).endswith("reading=ac.Reading(tokens=ac.TokenLayout.image(grid=(2, 3), class_token=True)).")
    assert "TokenLayout.text()) of text." in tokens_advice()


def test_modules_in_the_place_of_known_ones() -> None:
    class Own(nn.Module):
        pass

    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.Identity(), Own(), nn.Identity()]), "head": Own()})
    assert list(in_place_of(dict(model.named_modules()), ["blocks.0"], "timm")) == ["blocks.0", "blocks.1"]
