"""The candidates: methods with settings, for decoders and encoders of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import TextExample
from attnchain_interp import AttentionAttribution

LAYERS: Final[dict[str, Any]] = {"all layers": "all", "last layer": -1}
MEAN: Final[dict[str, Any]] = {"layer_weights": "mean", "balanced": False}  # as published; the defaults of today differ


class Seen(NamedTuple):
    """The inputs of the methods: a batch, the clean prediction, attention and its gradients."""

    model: Any
    batch: TextExample
    target: Tensor
    store: ac.AttentionStore
    gradients: ac.gradients.AttentionGradients


class Candidate(NamedTuple):
    """A method with settings, its family, and the scores (batch, token) that it gives."""

    method: str
    settings: str
    family: str
    scores: Callable[[Seen], Tensor]


def answer_logits(model: Any, **inputs: Tensor) -> Tensor:
    """Returns the logits (batch, class) of an encoder, or of a decoder's last token."""
    logits = model(**inputs).logits
    return logits if logits.ndim == 2 else logits[:, -1]


def score_of(target: Tensor) -> Callable[[Any], Tensor]:
    """Returns a function from a model's output to the logits (batch,) of these answers."""

    def score(output: Any) -> Tensor:
        logits = output.logits if output.logits.ndim == 2 else output.logits[:, -1]
        return logits.gather(1, target[:, None])[:, 0]

    return score


def candidates(decoder: bool) -> list[Candidate]:
    """Returns all candidates; the plainest of each method comes first. `here` is the last token or the class token."""
    here: Any = -1 if decoder else "class"
    read = "from the answering token" if decoder else "from the class token"
    at_here = torch.zeros(27)
    at_here[-1 if decoder else 0] = 1
    made: list[Candidate] = []

    def attention(settings: str, method: AttentionAttribution) -> None:
        made.append(Candidate(type(method).__name__, settings, "attention", lambda seen: method.score(seen.store)))

    def gradient(settings: str, method: Any) -> None:
        made.append(Candidate(type(method).__name__, settings, "gradients", lambda seen: method.score(seen.gradients)))

    policies: tuple[Any, ...] = ("damp", "drop-first", "reverse", "absorb") if decoder else ("damp", "reverse")
    for name, layers in LAYERS.items():
        for policy in policies:
            label = policy if decoder else {"damp": "incoming", "reverse": "outgoing"}[policy]
            for damping in (0.99, 0.85, 0.5) if policy != "absorb" and layers == "all" else (0.99,):
                settings = f"{label}, {name}" if policy == "absorb" else f"{label}, damping {damping}, {name}"
                attention(settings, ac.TokenRank(causal=policy, damping=damping, layers=layers, **MEAN))
        for damping in (0.99, 0.85, 0.5) if layers == "all" else (0.5,):
            rank = ac.TokenRank(damping=damping, personalization=at_here, layers=layers, **MEAN)
            attention(f"incoming, jumps to where the answer is read, damping {damping}, {name}", rank)
        if decoder:
            rank = ac.TokenRank(causal="absorb", personalization=at_here, layers=layers, **MEAN)
            attention(f"absorb, walks begin where the answer is read, {name}", rank)
    for name, layers in LAYERS.items():
        for steps in (2, 1, 3):
            attention(f"{steps} steps {read}, {name}", ac.MultiBounce(steps=steps, start=here, layers=layers, **MEAN))
        everywhere = ac.MultiBounce(steps=2, start="uniform", layers=layers, **MEAN)
        attention(f"2 steps from everywhere, {name}", everywhere)
        outgoing = ac.MultiBounce(steps=2, start=here, layers=layers, direction="outgoing", **MEAN)
        attention(f"2 steps {read}, outgoing, {name}", outgoing)
    for residual in (0.5, 0.2, 0.8):
        attention(f"{read}, residual {residual}", ac.Rollout(start=here, residual=residual))
    attention("from everywhere, residual 0.5", ac.Rollout(start="uniform"))
    attention(read, ac.AttentionFlow(start=here))
    for name, layers in LAYERS.items():
        attention(f"row {read}, {name}", ac.RawAttention(token=here, layers=layers))
    for name, layers in LAYERS.items():
        attention(name, ac.ColumnSum(layers=layers))
    for name, layers in LAYERS.items():
        for steps in (30, 2):
            attention(f"{steps} steps, {name}", ac.WeightedPageRank(steps=steps, layers=layers))

    for method in (ac.GradientAttention, ac.GradientRollout):
        gradient(read, method(start=here))
        gradient("from everywhere", method(start="uniform"))
    gradient(f"l1, {read}", ac.GMAR(start=here))
    gradient(f"l2, {read}", ac.GMAR(norm="l2", start=here))
    everywhere_at_once = torch.full_like(at_here, 1 / len(at_here))  # None would mean the last token of a decoder
    for damping in (0.99, 0.85, 0.5):
        gradient(f"damping {damping}", ac.GradientTokenRank(damping=damping, personalization=everywhere_at_once, **MEAN))
    for damping in (0.99, 0.85, 0.5):
        rank = ac.GradientTokenRank(damping=damping, personalization=at_here, **MEAN)
        gradient(f"jumps to where the answer is read, damping {damping}", rank)
    for steps in (2, 1, 3):
        gradient(f"{steps} steps {read}", ac.GradientMultiBounce(steps=steps, start=here, **MEAN))
    gradient("2 steps from everywhere", ac.GradientMultiBounce(steps=2, start="uniform", **MEAN))
    for damping in (0.99, 0.5):
        gradient(f"damping {damping}, {read}", ac.ExpectedVisits(start=here, damping=damping))
    gradient("damping 0.99, from everywhere", ac.ExpectedVisits(start="uniform"))

    def transition_maps(seen: Seen) -> Tensor:
        embeddings = seen.model.get_input_embeddings()(seen.batch.input_ids).detach()
        method = ac.TransitionAttentionMaps(seen.model, start=here)
        return method.attribute(embeddings, target=score_of(seen.target), output="tokens")

    def by_layers(seen: Seen, layers: Any) -> Tensor:
        method = ac.LeGrad(seen.model, layers=layers)
        return method.attribute(seen.batch.input_ids, target=score_of(seen.target), output="tokens")

    def integrated(seen: Seen) -> Tensor:
        def score(input_ids: Tensor) -> Tensor:
            return answer_logits(seen.model, input_ids=input_ids)

        method = LayerIntegratedGradients(score, seen.model.get_input_embeddings())
        ids, target = seen.batch.input_ids, seen.target
        return method.attribute(ids, torch.zeros_like(ids), target=target, n_steps=20).sum(-1).detach()  # type: ignore[union-attr]

    for name, layers in LAYERS.items():
        made.append(Candidate("LeGrad", name, "gradients", lambda seen, layers=layers: by_layers(seen, layers)))
    made.append(Candidate("TransitionAttentionMaps", f"{read}, over embeddings", "gradients", transition_maps))
    made.append(Candidate("IntegratedGradients", "embeddings, from padding, 20 steps", "gradients", integrated))
    attention("", ac.RandomRanking())
    made.append(Candidate("the evidence itself", "", "control", lambda seen: seen.batch.evidence.float()))
    return made
