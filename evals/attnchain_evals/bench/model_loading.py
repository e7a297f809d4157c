"""Models and images by their names on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from attnchain_evals.bench.loading_failure import cached_names, loading_failure
from attnchain_evals.terminal import did_you_mean, working

if TYPE_CHECKING:
    from attnchain_interp.capture import LoadedModel

BUNDLED = ("bundled", "bundled-decoder", "bundled-encoder")
FRAMEWORKS = {"timm": "timm", "hf": "transformers", "torchvision": "torch"}
MapsName = Literal["attention", "norm", "projection", "alti"]  # `attnchain_interp.capture.Maps`, which loads torch
Model = Annotated[
    str,
    typer.Argument(
        help=f"{', '.join(BUNDLED)}, timm:NAME, hf:NAME (a hub name or a local folder), torchvision:NAME, or your own:"
        " python:MODULE:FUNCTION, which returns (model, preprocess)"
    ),
]


def load(name: str) -> LoadedModel:
    """Loads the model of a command-line name."""
    from attnchain_interp.capture import LoadedModel, adapter_named

    if name == "bundled":
        from attnchain_evals.bundled import bundled_vit, preprocess

        return LoadedModel(bundled_vit(), preprocess, {"x": preprocess(grey_noise())})
    if name in BUNDLED:
        from attnchain_evals.bundled.text_models import bundled_decoder, bundled_encoder
        from attnchain_evals.tasks.key_values import KeyValues

        model = bundled_decoder() if name == "bundled-decoder" else bundled_encoder()
        return LoadedModel(model, None, {"input_ids": KeyValues("validation", 1)[0].input_ids[None]})
    prefix, _, rest = name.partition(":")
    if prefix == "python":
        from attnchain_evals.bench.own_model import own_model

        return own_model(rest, grey_noise())
    check_model(name)
    try:
        with working(f"loading {name}"):
            return adapter_named(FRAMEWORKS[prefix]).load(rest)
    except (OSError, RuntimeError, ValueError) as error:
        raise loading_failure(FRAMEWORKS[prefix], rest, error, _model_names(prefix)) from error


def check_model(name: str) -> None:
    """Refuses a name that no model can have."""
    from attnchain_interp import AttentionError

    prefix, _, rest = name.partition(":")
    if name in BUNDLED or (prefix in (*FRAMEWORKS, "python") and rest):
        return
    meant = did_you_mean(prefix, (*BUNDLED, *FRAMEWORKS)) if prefix else ""
    raise AttentionError(
        f"model {name!r} is unknown.{meant}",
        f"Use {', '.join(BUNDLED)}, timm:NAME, hf:NAME, torchvision:NAME or python:MODULE:FUNCTION.",
    )


def _model_names(prefix: str) -> list[str]:
    if prefix == "timm":
        import timm

        return timm.list_models()
    if prefix == "torchvision":
        from torchvision.models import list_models

        return list_models()
    return cached_names()


def grey_noise() -> Any:
    """Returns an image of noise to try a model with."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))


def normalization_of(preprocess: Any) -> tuple[list[float], list[float]]:
    """Returns (mean, std) of each channel that a preprocessing subtracts and divides by, from a black and a white image."""
    from PIL import Image

    black, white = (preprocess(Image.new("RGB", (256, 256), colour)).double().mean((0, 2, 3)) for colour in ("black", "white"))
    return (-black / (white - black)).tolist(), (1 / (white - black)).tolist()
