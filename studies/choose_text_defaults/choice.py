"""The figures of the candidates on texts, and the choice by faithfulness."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

import attnchain_interp as ac
from attnchain_evals import AttentionMask, KeyValues, ReplaceToken, Trial, bundled_decoder, bundled_encoder, preset
from attnchain_evals.tasks.key_values import FILLERS
from studies.choose_text_defaults.candidates import Candidate, Seen, answer_logits, score_of

MARGIN: Final = 0.01
METRICS: Final = [
    *(
        preset(name, occlusion=occlusion, features="token")
        for occlusion in (AttentionMask(), ReplaceToken(FILLERS.start))
        for name in ("comprehensiveness", "sufficiency")
    ),
    *(preset(name) for name in ("evidence-ap", "evidence-first")),
]
FIGURES: Final = ("C mask", "S mask", "C filler", "S filler", "faithfulness", "evidence AP", "top is evidence")

Figures = NDArray[np.float64]  # (example, figure)


def figures_of(decoder: bool, split: Any, examples: int, seed: int, chosen: list[Candidate]) -> tuple[list[Figures], float]:
    """Returns the figures (example, figure) of each candidate, and the model's accuracy."""
    model: Any = bundled_decoder() if decoder else bundled_encoder()
    found: list[list[Tensor]] = [[] for _ in chosen]
    right = 0

    generator = torch.Generator().manual_seed(seed)
    for batch in tqdm(list(KeyValues(split, examples, seed=seed).batches(128)), desc=f"{model.config.model_type} {split}"):
        ids = batch.input_ids
        with torch.no_grad():
            target = answer_logits(model, input_ids=ids).argmax(1)
        trial = Trial(model, ids, target, batch.evidence, words=batch.words)
        right += int((target == (batch.answer if decoder else batch.label)).sum())
        gradients = ac.capture_gradients(model, input_ids=ids, target=score_of(target))
        seen = Seen(model, batch, target, ac.capture(model, input_ids=ids, keep="maps"), gradients)
        for candidate, rows in zip(chosen, found, strict=True):
            scores = candidate.scores(seen).float().cpu()
            if candidate.method == "RandomRanking":  # anew for every batch
                scores = torch.rand(ids.shape, generator=generator)
            columns = [metric.measure(trial, scores)[:, 0] for metric in METRICS]
            faithful = (columns[0] - columns[1] + columns[2] - columns[3]) / 2
            rows.append(torch.stack([*columns[:4], faithful, *columns[4:]], 1))
    return [torch.cat(rows).numpy() for rows in found], right / examples


def choose(made: list[Candidate], figures: list[Figures]) -> dict[str, int]:
    """Returns method → the number of its plainest candidate within the margin of its best."""
    means = [float(found[:, FIGURES.index("faithfulness")].mean()) for found in figures]
    chosen: dict[str, int] = {}
    for method in dict.fromkeys(candidate.method for candidate in made):
        own = [k for k, candidate in enumerate(made) if candidate.method == method]
        best = max(means[k] for k in own)
        chosen[method] = next(k for k in own if means[k] >= best - MARGIN)
    return chosen
