"""Explorer pages of a model and one input: attention, chains of two classes, methods with deletion curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from attnchain_evals.bench.names import build_methods
from attnchain_evals.bench.shared_capture import SharedCapture, check_classes
from attnchain_evals.perturbation.curve import PerturbationCurve
from attnchain_evals.perturbation.features import each_token
from attnchain_evals.perturbation.perturbation_curve import perturbation_curve
from attnchain_evals.terminal import progress
from attnchain_interp import (
    AttentionAttribution,
    AttentionError,
    AttentionGradientAttribution,
    AttentionStore,
    Reading,
    Role,
    capture,
    capture_gradients,
    explore,
)
from attnchain_interp.capture import Maps
from attnchain_interp.explorer import Explorer
from attnchain_interp.gradients import AttentionGradients

IMAGE_METHODS: Final = ("TokenRank", "MultiBounce", "Rollout", "GradientTokenRank", "ExpectedVisits", "RandomRanking")
DECODER_METHODS: Final = ("TokenRank", "MultiBounce", "GradientTokenRank", "ExpectedVisits")
TEXT_METHODS: Final = (*DECODER_METHODS, "Rollout")  # which ranks the tokens of a decoder worse than a random order
_STEPS: Final = 20  # of a deletion curve
_LONGEST: Final = 512  # tokens of a text, above which curves would take many minutes


def explore_image(
    model: nn.Module,
    pixels: Tensor,
    methods: Sequence[str] = IMAGE_METHODS,
    target: int | None = None,
    title: str | None = None,
    max_mb: float = 3.0,
    normalization: Any = None,
    shown: Any = None,
) -> Explorer:
    """Returns the page of an image: the chains of its attention and of two classes, and methods with their deletion curves.

    The page of a model without logits has no classes and no curves. It shows the methods that read attention alone.

    Args:
        model: in eval mode.
        pixels: (1, channel, height, width).
        methods: specs, as `attnchain bench ls methods` has them.
        target: the class that is explained; the predicted one when None. The other class is the likeliest beside it.
        title, max_mb, normalization: as in `explore`.
        shown: the part of the photograph that the model saw, in its own pixels (height, width, channel). None means `pixels`.

    Raises:
        AttentionError: a model without an image grid; as `explore` and `capture`.
    """
    shared = SharedCapture(model, pixels, target=None if target is None else torch.tensor([target]))
    store = shared.store
    if store.tokens.grid is None:
        raise AttentionError("the model has no image grid.", "Use explore_text for a model of text.")
    options: dict[str, Any] = {"title": title, "max_mb": max_mb, "image": pixels, "normalization": normalization}
    if shown is not None:
        options |= {"image": shown, "normalization": None}
    built = build_methods(methods, model, store.tokens.grid)
    try:
        logits = shared.logits[0]
    except AttentionError:
        of_attention = [item for item in built.items() if isinstance(item[1], AttentionAttribution)]
        grids = {name: shared.scores(method) for name, method in progress(of_attention, "methods")}
        return explore(store, methods=grids, **options)
    chosen = int(shared.target[0])
    grids = {name: shared.scores(method) for name, method in progress([*built.items()], "methods")}
    curves = {
        name: perturbation_curve(model, pixels, grid, chosen, fractions=_STEPS)
        for name, grid in progress([*grids.items()], "deletion curves")
    }
    targets = _class_gradients(logits, chosen, shared.gradients, lambda k: capture_gradients(model, pixels, target=k), model)
    return explore(store, methods=grids, curves=curves, targets=targets, **options)


def explore_text(
    model: nn.Module,
    inputs: Mapping[str, Any],
    tokenizer: Any,
    methods: Sequence[str] | None = None,
    target: int | None = None,
    title: str | None = None,
    max_mb: float = 3.0,
    outputs: int = 0,
) -> Explorer:
    """Returns the page of a text: the same as `explore_image`, for a classifier or for the next token of a decoder.

    The page has contributions where the model's blocks can be taken apart.
    Curves show the probability of the answer while attention to the top tokens is masked out. Texts of more than 512 tokens
    have none.

    Args:
        model: of transformers, in eval mode.
        inputs: what it is called with: input_ids (1, token), attention_mask, …
        tokenizer: for labels.
        methods: as in `explore_image`; `DECODER_METHODS` or `TEXT_METHODS` when None.
        target, title, max_mb: as in `explore_image`; the classes of a decoder are its vocabulary.
        outputs: how many tokens a decoder writes after the text, at most, each the likeliest. The page explains them. Methods
            score the text alone.

    Raises:
        AttentionError: an encoder–decoder, which has no page of its own; as `explore` and `capture`.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise AttentionError(
            f"{type(model).__name__} is an encoder–decoder; a page shows one sequence of text.",
            'Call ac.explore(ac.capture(model, …, reading=ac.Reading(kind="encoder"))).',
        )
    reading = Reading(tokenizer=tokenizer)

    @cache
    def captured(maps: Maps | None) -> AttentionStore:
        return capture(model, **inputs, maps=maps, reading=reading)

    store = captured("attention")
    built = build_methods(methods or (DECODER_METHODS if store.causal else TEXT_METHODS), model, (1, 1))
    every = _continued(model, inputs, outputs) if store.causal else inputs
    written = every["input_ids"].shape[1] - inputs["input_ids"].shape[1]
    whole = capture(model, **every, maps="attention", reading=reading) if written else store
    told = capture(model, **every, maps=None, reading=reading) if written else captured(None)
    contributions = None if told.metadata.get("maps", "attention") == "attention" else told

    def page(**given: Any) -> Explorer:
        return explore(whole, contributions=contributions, outputs=written, title=title, max_mb=max_mb, **given)

    with torch.no_grad():
        logits = _answer(model(**inputs))
    if logits is None:
        of_attention = {name: method for name, method in built.items() if isinstance(method, AttentionAttribution)}
        scores = {name: method.score(captured(method.captured_maps)) for name, method in of_attention.items()}
        return page(methods=_padded(scores, written))
    chosen = int(logits[0].argmax()) if target is None else target
    check_classes([chosen], logits.shape[1])

    def gradients(k: int, given: Mapping[str, Any] = inputs, last: int = -1) -> AttentionGradients:
        def score(output: Any) -> Tensor:
            answer = _answer(output, last)
            if answer is None:
                raise AttentionError(
                    f"{type(model).__name__} gave logits once, and none in another forward.", "Call model.eval() first."
                )
            return answer[:, k]

        return capture_gradients(model, **given, target=score)

    found = gradients(chosen)
    others = {name: value for name, value in inputs.items() if name != "input_ids"}
    selected = (inputs["input_ids"].shape[1] - 1, chosen) if store.causal else chosen

    def scored(method: Any) -> Tensor:
        if isinstance(method, AttentionAttribution):
            return method.score(captured(method.captured_maps))
        if isinstance(method, AttentionGradientAttribution):
            return method.score(found)
        return method.attribute(inputs["input_ids"], selected, output="tokens", model_kwargs=others)

    scores = {name: scored(method) for name, method in progress([*built.items()], "methods")}
    words = tokenizer if store.causal else None
    shown = partial(gradients, given=every, last=-1 - written)
    targets = _class_gradients(logits[0], chosen, shown(chosen) if written else found, shown, model, words)
    curves = _text_curves(model, inputs["input_ids"], store, scores, chosen)
    return page(methods=_padded(scores, written), curves=curves, targets=targets)


def _continued(model: nn.Module, inputs: Mapping[str, Any], most: int) -> Mapping[str, Any]:
    """Returns the inputs with the tokens that a decoder writes after them; as they are, if it writes none."""
    if most == 0 or not getattr(model, "can_generate", lambda: False)():
        return inputs
    generate: Any = model.generate
    with torch.no_grad():
        return {"input_ids": generate(**inputs, max_new_tokens=most, do_sample=False)}


def _padded(scores: Mapping[str, Tensor], written: int) -> dict[str, Tensor]:
    """Returns scores (batch, token) of a text with zeros for the tokens that were written after it."""
    return {name: functional.pad(score, (0, written)) for name, score in scores.items()}


def _answer(output: Any, last: int = -1) -> Tensor | None:
    """Returns logits (batch, class), those after the token `last` for a decoder; None for a model without logits."""
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        return None
    return logits[:, last] if logits.ndim == 3 else logits


def _class_gradients(
    logits: Tensor,
    chosen: int,
    found: AttentionGradients,
    gradients: Callable[[int], AttentionGradients],
    model: nn.Module,
    tokenizer: Any = None,
) -> dict[str, AttentionGradients]:
    """Returns name and probability → gradients, of the chosen class and of the likeliest other class."""
    other = next(k for k in logits.argsort(descending=True).tolist() if k != chosen) if len(logits) > 1 else None
    probabilities = logits.float().softmax(0)
    names = getattr(getattr(model, "config", None), "id2label", None) or {}

    def name(k: int) -> str:
        told = repr(tokenizer.decode([k])) if tokenizer is not None else str(names.get(k, f"class {k}"))
        return f"{told}, {float(probabilities[k]):.0%}"

    return {name(chosen): found} | ({} if other is None else {name(other): gradients(other)})


def _text_curves(
    model: nn.Module, ids: Tensor, store: AttentionStore, scores: Mapping[str, Tensor], chosen: int
) -> dict[str, PerturbationCurve]:
    ranked = store.tokens.roles == Role.TEXT
    if store.causal:
        ranked[torch.arange(len(ranked)), store.tokens.last] = False  # it gives the answer
    if not bool(ranked.any()) or ranked.shape[1] > _LONGEST:
        return {}
    tokens = each_token(torch.where(ranked, 0, -1))
    options: dict[str, Any] = {"occlusion": "attention-mask", "fractions": _STEPS, "features": tokens}
    of_methods = progress([*scores.items()], "deletion curves")
    return {name: perturbation_curve(model, ids, score, chosen, **options) for name, score in of_methods}
