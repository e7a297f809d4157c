"""Models and images by their names."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args
from urllib.error import HTTPError, URLError

import pytest
import torch
import transformers
from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from PIL import Image

from attnchain_evals.bench.model_loading import (
    MapsName,
    cached_names,
    check_model,
    check_text,
    load,
    loading_failure,
    normalization_of,
)
from attnchain_evals.tasks.digest import model_identity
from attnchain_interp import AttentionError, capture
from attnchain_interp.capture import Maps


@pytest.mark.parametrize("name", ["bundled", "bundled-encoder", "bundled-decoder"])
def test_the_sample_of_a_bundled_model_fits_it(name: str) -> None:
    loaded = load(name)
    with torch.no_grad():
        assert loaded.model(**loaded.sample) is not None


def test_a_folder_lacks_its_framework(tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match=f"(?s)is a folder, and its framework is not named.*Write hf:{tmp_path}"):
        load(str(tmp_path))


def test_unknown_names() -> None:
    with pytest.raises(AttentionError, match=r"model 'bundle' is unknown. Did you mean .*\nUse bundled"):
        load("bundle")
    with pytest.raises(AttentionError, match=r"timm knows no model 'vit_tiny_patch16_225'.*\n.*Did you mean 'vit_tiny"):
        load("timm:vit_tiny_patch16_225")


def test_the_normalization_of_a_preprocessing_is_found() -> None:

    def preprocess(image: Image.Image) -> torch.Tensor:
        level = torch.tensor(image.getpixel((0, 0))).double() / 255
        return ((level - 0.25) / 0.5)[None, :, None, None].expand(1, 3, 2, 2)

    mean, std = normalization_of(preprocess)
    assert mean == pytest.approx([0.25] * 3)
    assert std == pytest.approx([0.5] * 3)


MODULE = """
from attnchain_evals.bundled import bundled_vit, preprocess
from attnchain_interp.capture import LoadedModel

def build():
    return bundled_vit().train(), preprocess

def whole():
    return LoadedModel(*build(), {"x": None})

def alone():
    return bundled_vit()

def text():
    return "model", preprocess

def one_image():
    return bundled_vit(), lambda image: preprocess(image)[0]

def broken():
    raise RuntimeError("no weights")
"""


def test_it_is_read_with_its_preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    found = load("python:my_module:build")
    assert not found.model.training
    assert capture(found.model, **found.sample).tokens.grid == (14, 14)
    assert load("python:my_module:whole").sample == {"x": None}
    for function, said in (
        ("alone", "cannot unpack|not iterable"),
        ("text", "returned str for a model"),
        ("broken", "RuntimeError: no weights"),
        ("one_image", r"preprocess returns a tensor \(3, 56, 56\), not pixels"),
        ("nothing", "AttributeError"),
    ):
        with pytest.raises(AttentionError, match=said):
            load(f"python:my_module:{function}")
    with pytest.raises(AttentionError, match="ModuleNotFoundError"):
        load("python:no_such_module:build")
    with pytest.raises(AttentionError, match="names no function"):
        load("python:my_module")
    with pytest.raises(AttentionError, match="model 'python:' is unknown"):
        check_model("python:")


RESPONSE: Any = SimpleNamespace(headers={}, request=SimpleNamespace(headers={}))


def raised_from(*errors: BaseException) -> BaseException:
    """The first error, raised because of the second, and so on."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


UNREACHED = "could not reach the hub, and 'm' is neither in its cache nor a folder"
CASES: list[tuple[BaseException, str]] = [
    (raised_from(OSError("x"), LocalEntryNotFoundError("x"), ConnectionError("x")), UNREACHED),
    (URLError(OSError("network is unreachable")), UNREACHED),
    (TimeoutError("x"), UNREACHED),
    (raised_from(OSError("no identifier"), RepositoryNotFoundError("x", response=RESPONSE)), "knows no model 'm'"),
    (raised_from(OSError("x"), HFValidationError("repo id")), "knows no model 'm'"),
    (RuntimeError("Unknown model (m)"), "knows no model 'm'"),
    (raised_from(OSError("x"), GatedRepoError("x", response=RESPONSE)), "gives it only to those who asked"),
    (HTTPError("https://hub.invalid", 503, "busy", {}, None), "could not load 'm': HTTP Error 503: busy"),  # type: ignore[arg-type]
    (ValueError("no model_type in config.json"), "could not load 'm': no model_type"),
]


@pytest.mark.parametrize(("error", "message"), CASES)
def test_the_reason_is_named(error: BaseException, message: str) -> None:
    assert message in str(loading_failure("transformers", "m", error, ["m"]))


def test_a_near_name_is_offered_but_not_the_name_itself() -> None:
    error = raised_from(OSError("x"), ConnectionError("x"))
    assert "Did you mean 'org/model-16'?" in str(loading_failure("transformers", "org/model16", error, ["org/model-16"]))
    assert "Did you mean" not in str(loading_failure("transformers", "org/model-16", error, ["org/model-16", "org/model-8"]))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match="there is no folder .*none"):
        load(f"hf:{tmp_path / 'none'}")
    with pytest.raises(AttentionError, match="transformers could not load"):
        load(f"hf:{tmp_path}")


def test_a_file_is_no_text(tmp_path: Path) -> None:
    check_text("m", ["a film to forget"])
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(AttentionError, match=r"m takes no images, and .*photo\.jpg is a file"):
        check_text("m", [str(tmp_path / "photo.jpg")])
    with pytest.raises(AttentionError, match="2 texts are given"):
        check_text("m", ["a film", "to forget"])


def test_names_in_the_cache(tmp_path: Path) -> None:
    assert cached_names(tmp_path / "none") == []
    snapshot = tmp_path / "models--org--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert cached_names(tmp_path) == ["org/model"]


def test_weights_that_are_drawn_give_a_model_of_one_identity(tmp_path: Path) -> None:
    size: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(image_size=16, patch_size=8, **size)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    transformers.ViTImageProcessor().save_pretrained(tmp_path)
    first, second = (model_identity(load(f"hf:{tmp_path}").model) for _ in range(2))
    assert first == second


def test_a_command_knows_all_maps_of_a_capture() -> None:
    assert get_args(MapsName) == get_args(Maps)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_of_weights_that_is_cut_off(name: str, tmp_path: Path) -> None:
    transformers.ViTConfig(architectures=["ViTModel"]).save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(AttentionError, match=f"{tmp_path}"):
        load(f"hf:{tmp_path}")
