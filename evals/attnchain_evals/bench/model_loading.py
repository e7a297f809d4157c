"""Models by their names on the command line, those of one's own too, and the reason why one was not loaded."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from attnchain_evals.terminal import did_you_mean, working

if TYPE_CHECKING:
    from attnchain_interp import AttentionError
    from attnchain_interp.capture import LoadedModel

BUNDLED = ("bundled", "bundled-decoder", "bundled-encoder")
FRAMEWORKS = {"timm": "timm", "hf": "transformers", "torchvision": "torch"}
# `attnchain_interp.capture.Maps`, which loads torch
MapsName = Literal["attention", "norm", "norm-res", "norm-resln", "projection", "alti"]
_NAMES: Final = (
    "timm:NAME, hf:NAME (a hub name or a local folder), torchvision:NAME, or your own: python:MODULE:FUNCTION, which returns"
    " (model, preprocess)"
)
MODEL: Final = f"bundled, {_NAMES}"
ANY_MODEL: Final = f"{', '.join(BUNDLED)}, {_NAMES}"  # also those that take the ids of tokens alone
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)]
RETURNS = "Return (model, preprocess), where preprocess turns a PIL image into (1, channel, height, width), or a LoadedModel."
# classes of errors by name, since each framework has libraries of its own for the network
_UNREACHED: Final = {
    *("ConnectError", "ConnectTimeout", "ConnectionError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"),
    *("ProxyError", "ReadTimeout", "TimeoutError", "gaierror"),
}
_UNKNOWN: Final = {"HFValidationError", "RepositoryNotFoundError"}


def load(name: str) -> LoadedModel:
    """Loads the model of a command-line name."""
    from safetensors import SafetensorError

    from attnchain_interp import AttentionError
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
        return own_model(rest, grey_noise())
    check_model(name)
    try:
        with working(f"loading {name}"):
            return adapter_named(FRAMEWORKS[prefix]).load(rest)
    except AttentionError:
        raise
    except (EOFError, OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise loading_failure(FRAMEWORKS[prefix], rest, error, _model_names(prefix)) from error


def check_model(name: str) -> None:
    """Refuses a name that no model can have."""
    from attnchain_interp import AttentionError

    prefix, _, rest = name.partition(":")
    if name in BUNDLED or (prefix in (*FRAMEWORKS, "python") and rest):
        return
    if os.path.isdir(name):
        raise AttentionError(f"model {name!r} is a folder, and its framework is not named.", f"Write hf:{name}.")
    meant = did_you_mean(prefix, (*BUNDLED, *FRAMEWORKS)) if prefix else ""
    raise AttentionError(
        f"model {name!r} is unknown.{meant}",
        f"Use {', '.join(BUNDLED)}, timm:NAME, hf:NAME or hf:FOLDER, torchvision:NAME or python:MODULE:FUNCTION.",
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


def read_image(loaded: LoadedModel, path: str | Path | None) -> Any:
    """Returns the image of a file as the model's input (1, channel, height, width); None is the bundled task's first one."""
    if path is None:
        from attnchain_evals.tasks.cluttered_digits import ClutteredDigits

        return ClutteredDigits("test", 1)[0].image[None]
    from attnchain_evals.tasks.image_folder import open_image

    preprocess: Any = loaded.preprocess
    return preprocess(open_image(path))


def check_text(model: str, texts: Sequence[str]) -> None:
    """Refuses the path of a file in the place of a text, and several texts."""
    from attnchain_interp import AttentionError

    if os.path.isfile(texts[0]):
        raise AttentionError(f"{model} takes no images, and {texts[0]} is a file.", "Write a text in quotes.")
    if len(texts) > 1:
        raise AttentionError(f"{len(texts)} texts are given; one is shown at a time.", "Write the text in quotes.")


def normalization_of(preprocess: Any) -> tuple[list[float], list[float]]:
    """Returns (mean, std) of each channel that a preprocessing subtracts and divides by, from a black and a white image."""
    from PIL import Image

    black, white = (preprocess(Image.new("RGB", (256, 256), colour)).double().mean((0, 2, 3)) for colour in ("black", "white"))
    return (-black / (white - black)).tolist(), (1 / (white - black)).tolist()


def own_model(name: str, image: Any) -> LoadedModel:
    """Calls the function, and returns its model in eval mode with its preprocessing.

    Args:
        name: "my_module:build". The module is looked for in the working directory, too.
        image: a PIL image to try the preprocessing with.
    """
    from torch import nn

    from attnchain_evals.tasks.mask_placement import pixels_of
    from attnchain_interp import AttentionError
    from attnchain_interp.capture import LoadedModel

    module, _, function = name.partition(":")
    if not module or not function:
        raise AttentionError(f"python:{name} names no function of a module.", "Write python:my_module:build.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        built = getattr(importlib.import_module(module), function)()
        if isinstance(built, LoadedModel):
            return built
        model, preprocess = built
        sample = pixels_of(preprocess, image)[None]
    except AttentionError:
        raise
    except Exception as error:
        raise AttentionError(f"python:{name} failed ({type(error).__name__}: {error}).", RETURNS) from error
    if not isinstance(model, nn.Module):
        raise AttentionError(f"python:{name} returned {type(model).__name__} for a model.", RETURNS)
    first = next(iter(inspect.signature(model.forward).parameters), "x")
    return LoadedModel(model.eval(), preprocess, {first: sample})


def loading_failure(framework: str, name: str, error: BaseException, known: Iterable[str]) -> AttentionError:
    """Returns the error to raise where a framework could not load a model: a misspelt name is told from an unreachable hub.

    Names that are `known` without the network, or are in the framework's cache, are proposed.
    """
    from attnchain_interp import AttentionError

    classes = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    said, known = " ".join(str(error).split()).rstrip("."), list(known)
    near = "" if name in known else did_you_mean(name, known)
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        return AttentionError(f"there is no folder {name}.", "Give the folder of `save_pretrained`, or a name on the hub.")
    if "GatedRepoError" in classes:
        return AttentionError(
            f"the hub has {name!r}, and gives it only to those who asked for it ({said}).",
            "Ask there and log in: hf auth login.",
        )
    if classes & _UNKNOWN or "unknown model" in said.casefold():
        return AttentionError(f"{framework} knows no model {name!r} ({said}).", f"Check the name.{near}")
    if classes & _UNREACHED or ("URLError" in classes and "HTTPError" not in classes):
        return AttentionError(
            f"{framework} could not reach the hub, and {name!r} is neither in its cache nor a folder ({said}).",
            f"Connect to the network, or give a folder.{near}",
        )
    return AttentionError(
        f"{framework} could not load {name!r}: {said}.", f"Check the name, and the files of the model.{near}"
    )


def cached_names(cache: Path | None = None) -> list[str]:
    """Returns the names of the models in the cache of the hub: a folder, or the usual one when None."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return sorted(repo.repo_id for repo in scan_cache_dir(cache).repos if repo.repo_type == "model")
    except CacheNotFound:
        return []


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
