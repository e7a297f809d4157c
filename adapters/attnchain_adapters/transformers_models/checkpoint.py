"""Models and tokenizers out of the files of `save_pretrained`."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from attnchain_adapters.transformers_models.stacks import attention_modules
from attnchain_interp import AttentionError

SENTENCE: Final = "Attention moves from token to token, as a walker on a Markov chain does."


def pretrained(name: str, kind: Any) -> Any:
    """Returns the model of this class out of a folder, or of a name on the hub, in eval mode.

    Weights that the files lack are drawn, the same at each load. A pooler or a head behind the last layer may lack them.

    Raises:
        AttentionError: a file of weights is damaged, or weights of an attention layer, or before one, are missing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            model, told = kind.from_pretrained(name, output_loading_info=True)
        except SafetensorError as error:
            raise AttentionError(
                f"{' and '.join(_damaged(Path(name))) or name} cannot be read ({error}).",
                "Download or copy the file again, whole.",
            ) from error
    check_weights(name, model, told["missing_keys"])
    return model.eval()


def check_weights(name: str, model: nn.Module, missing: Collection[str]) -> None:
    """Refuses a model whose maps depend on missing weights: of a layer that attends, or of a module before the last of them.

    A parameter with `mask` in its name stands for hidden tokens, in training alone.
    """
    ordered = [key for key, _ in model.named_parameters()]
    layers = tuple(re.sub(r"(.*\.\d+)\..*", r"\1", each) + "." for each in attention_modules(model))
    count = max((place + 1 for place, key in enumerate(ordered) if key.startswith(layers)), default=0)
    lacking = [key for key in ordered[:count] if key in missing and "mask" not in key.rsplit(".", 1)[-1]]
    if lacking:
        some = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        raise AttentionError(
            f"the files of {name} lack {some}, which attention depends on.",
            f"Download or save all weights of {type(model).__name__} again.",
        )


def tokenizer_of(name: str, kind: Any) -> Any:
    """Returns the tokenizer of this class out of a folder, or of a name on the hub.

    Raises:
        AttentionError: its files are missing or cannot be read. Some classes are then made with an empty vocabulary.
    """
    save = "ave them there: tokenizer.save_pretrained(folder)."
    try:
        tokenizer = kind.from_pretrained(name)
    except ValueError as error:
        why = " ".join(str(error).split()).rstrip(".")
        cause = f"{name} lacks files of its tokenizer, or a package that reads them ({why})."
        raise AttentionError(cause, f"Install the package, or s{save}") from None
    if not set(tokenizer.get_vocab()) - {*tokenizer.all_special_tokens, "▁"}:  # some classes add the mark of a space
        raise AttentionError(f"{name} lacks files of its tokenizer (its vocabulary is empty).", f"S{save}")
    return tokenizer


def _damaged(folder: Path) -> list[str]:
    found: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError:
            found.append(str(file))
    return found
