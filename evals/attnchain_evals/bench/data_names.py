"""The names of data on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from torch import nn

from attnchain_evals.bundled.common_facts import COMMON_FACTS
from attnchain_evals.bundled.invented_passages import INVENTED_PASSAGES
from attnchain_evals.terminal import did_you_mean
from attnchain_interp import AttentionError

DATA: Final = {
    "digits:validation": "ClutteredDigits, validation: tune on these",
    "digits:test": "ClutteredDigits, test: report these",
    "key-values:validation": "KeyValues, texts whose evidence is known, validation",
    "key-values:test": "KeyValues, test",
    "common-facts:validation": "bundled prompts that a fact goes on, for a decoder, validation",
    "common-facts:test": "bundled prompts that a fact goes on, test",
    "invented-passages:validation": "bundled passages with questions, whose answers no model knows, for a decoder, validation",
    "invented-passages:test": "bundled passages with questions, test",
    "invented-passages-answers:validation": "the same; methods explain all tokens of the answer, validation",
    "invented-passages-answers:test": "the same, test",
    "folder:PATH": "images at any depth; with PATH/images and PATH/masks (same names), as ECSSD has, localisation too",
    "classes:PATH": "a folder for each class, its images inside at any depth: labels; ImageNet's by their WordNet ids",
    "imagenet-segmentation:PATH": "the published gtsegs_ijcv.mat; whole images squeezed to the model's size, as published",
    "bsds500:PATH": "photographs with the segmentations of several people",
    "prompts:PATH": "prompts of your own with their answers: .jsonl or .json",
    "facts:PATH": "prompts that a fact goes on: facts.jsonl, known_1000.json, counterfact.json",
    "indirect-objects:PATH": "prompts that a name goes on, said once: indirect_objects.jsonl",
    "passages:PATH": "passages with a question: passages.jsonl, or SQuAD's train-v1.1.json and the like",
    "passages-answers:PATH": "the same; methods explain all tokens of the answer, and metrics of the evidence judge them",
    "reviews:PATH": "reviews with rationales: movie_reviews.jsonl, or ERASER's folder",
}
"""BSDS500 and prompts of a PATH take a split behind it: "facts:PATH:validation", "facts:PATH:test"."""
EXAMPLES = 512
_TEXTS = ("prompts", "facts", "indirect-objects", "passages", "passages-answers", "reviews")
_BUNDLED: Final = {
    "common-facts": ("facts", COMMON_FACTS),
    "invented-passages": ("passages", INVENTED_PASSAGES),
    "invented-passages-answers": ("passages-answers", INVENTED_PASSAGES),
}
_SPLITS = ("train", "validation", "test")


def open_data(
    name: str,
    preprocess: Callable[[Any], Any] | None,
    limit: int | None,
    seed: int,
    tokenizer: Any = None,
    model: nn.Module | None = None,
    classes: Sequence[str] | None = None,
) -> Any:
    """Opens the data of a name.

    Args:
        name: see `DATA`.
        preprocess: a PIL image → the model's input; None for a model that takes no images.
        limit: how many examples at most will be read.
        seed: of drawn data.
        tokenizer: of a model of texts; None without one.
        model: is asked which prompts it answers.
        classes: the names of the model's classes, for "classes:PATH".
    """
    kind, path, split = _parts(name)
    if kind in ("digits", "key-values"):
        from attnchain_evals.tasks.cluttered_digits import ClutteredDigits
        from attnchain_evals.tasks.key_values import KeyValues

        count = EXAMPLES if limit is None else max(EXAMPLES, limit)
        return (ClutteredDigits if kind == "digits" else KeyValues)(split, count, seed=seed)
    if kind in _TEXTS:
        if tokenizer is None:
            raise AttentionError(
                "the model has no tokenizer, so no prompts can be read for it.", "Use a decoder: --model hf:NAME."
            )
        return _texts(kind)(path, tokenizer, model, split, limit=limit)
    if preprocess is None:
        raise AttentionError(
            "the model takes no images, so no images can be read for it.", "Use key-values:validation or a vision model."
        )
    return _images(kind, path, preprocess, split, classes)


def check_data(name: str) -> None:
    """Refuses a name that no data can have, and a path that is not there."""
    _, path, _ = _parts(name)
    if not os.path.exists(path):
        raise AttentionError(f"data {name!r}: there is no file or folder {path}.", "Correct the path.")


def _parts(name: str) -> tuple[str, str, Any]:
    """Returns the kind, the path ("." of drawn data), and the split or None."""
    kind, _, rest = name.partition(":")
    if kind in ("digits", "key-values") and rest in _SPLITS:
        return kind, ".", rest
    if kind in _BUNDLED and rest in _SPLITS[1:]:
        reader, file = _BUNDLED[kind]
        return reader, str(file), rest
    if os.path.exists(name):
        fix = f"Write folder:{name} for images, classes:{name} for a folder of each class, or prompts:{name} for prompts."
        raise AttentionError(f"data {name!r} is a path, and its kind is not named.", fix)
    if f"{kind}:PATH" not in DATA or not rest:
        raise AttentionError(f"data {name!r} is unknown.{did_you_mean(name, DATA)}", f"Use one of {', '.join(DATA)}.")
    path, _, split = rest.rpartition(":")
    return (kind, path, split) if kind in ("bsds500", *_TEXTS) and split in _SPLITS and path else (kind, rest, None)


def _texts(kind: str) -> Any:
    from attnchain_evals.tasks.completions import Facts, IndirectObjects, Prompts
    from attnchain_evals.tasks.passages import Passages
    from attnchain_evals.tasks.reviews import Reviews

    return {
        "prompts": Prompts,
        "facts": Facts,
        "indirect-objects": IndirectObjects,
        "passages": Passages,
        "passages-answers": partial(Passages, explained="answer"),
        "reviews": Reviews,
    }[kind]


def _images(kind: str, path: str, preprocess: Any, split: Any, classes: Sequence[str] | None) -> Any:
    from attnchain_evals.tasks.bsds500 import BSDS500
    from attnchain_evals.tasks.class_folder import ClassFolder
    from attnchain_evals.tasks.image_folder import ImageFolder
    from attnchain_evals.tasks.imagenet_segmentation import ImageNetSegmentation
    from attnchain_evals.tasks.mask_placement import WholeImage

    if kind == "imagenet-segmentation":
        return ImageNetSegmentation(path, WholeImage(preprocess))
    if kind == "bsds500":
        return BSDS500(path, preprocess, split or "test")
    return ImageFolder(path, preprocess) if kind == "folder" else ClassFolder(path, preprocess, classes)
