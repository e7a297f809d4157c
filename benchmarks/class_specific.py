"""Class-specific methods beside the class-agnostic ones: `python -m benchmarks.class_specific` (some ten minutes, two cores).

Prints deletion, insertion, SRG and localisation on images of the bundled task, validation images by default, so that choices
can be made by them; differences of SRG are paired against `--baseline`. The class is that of the clean prediction.
"""

from __future__ import annotations

import argparse
from typing import Any

from torch import nn

import attnchain_interp as ac
from attnchain_evals import ClutteredDigits, InputMagnitude, benchmark, bundled_vit
from attnchain_evals.bench.metrics_for_now import localisation_metrics, perturbation_metrics
from attnchain_evals.demo import FRACTIONS


def methods(model: nn.Module) -> dict[str, Any]:
    return {
        "GradientAttention": ac.GradientAttention(),
        "GradientRollout": ac.GradientRollout(),
        "GMAR": ac.GMAR(),
        "LeGrad": ac.LeGrad(),
        "LeGrad, last layer": ac.LeGrad(layers=-1),
        "TransitionAttentionMaps": ac.TransitionAttentionMaps(model),
        "GradientTokenRank": ac.GradientTokenRank(),
        "GradientMultiBounce": ac.GradientMultiBounce(),
        "ExpectedVisits": ac.ExpectedVisits(),
        "ExpectedVisits, rectified by heads": ac.ExpectedVisits(rectify="heads"),
        "TokenRank": ac.TokenRank(),
        "MultiBounce": ac.MultiBounce(),
        "Rollout": ac.Rollout(),
        "RandomRanking": ac.RandomRanking(),
        "input magnitude": InputMagnitude((14, 14)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baseline", default="GradientAttention")
    arguments = parser.parse_args()
    model = bundled_vit()
    data = ClutteredDigits(arguments.split, arguments.images, seed=arguments.seed)
    metrics = [*perturbation_metrics(fractions=FRACTIONS), *localisation_metrics()]
    found = benchmark(model, data, methods(model), metrics, baseline=arguments.baseline, progress=True)
    print(f"{arguments.images} {arguments.split} images, seed {arguments.seed}\n\n{found.markdown()}")


if __name__ == "__main__":
    main()
