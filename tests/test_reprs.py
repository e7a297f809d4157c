"""Every public object says what it is, in few lines and without numbers of tensors."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers  # noqa: F401 - its adapter is found once it is imported
from PIL import Image

import attnchain_evals as evals
import attnchain_interp as ac
from attnchain_evals import metrics
from attnchain_evals.bench.names import method_classes
from attnchain_interp.capture import AttentionBlock, LayerNorm, LoadedModel, adapter_named
from attnchain_interp.reprs import brief, with_settings

from .evals.miniatures import write_gtsegs

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SHOWN_AS_TYPES = {"Role", "AttentionError", "Score"}  # an enumeration, an exception, three numbers
ABSTRACT = {"Adapter", "AttentionAttribution", "AttentionGradientAttribution", "AttributionMetric"}
ABSTRACT |= {"EncoderDecoderAdapter", "ExampleMetric", "Occlusion", "PipelineAdapter", "PromptedTexts", "Reducer"}
ELSEWHERE = {
    "BSDS500",
    "Facts",
    "FetchedModel",
    "IndirectObjects",
    "LinearProbe",
    "Passages",
    "Prompts",
    "Reviews",
    "Segments",
}  # in their own tests


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * images.flatten(1)[:, :3]


def linear() -> Linear:
    return Linear().eval()


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("classes") / "first"
    folder.mkdir()
    write_gtsegs(segments := tmp_path_factory.mktemp("segments") / "gtsegs_ijcv.mat")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "one.png")
    sizes: dict[str, Any] = {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 3, "num_classes": 3}
    model = timm.create_model("vit_tiny_patch16_224", **sizes).eval()
    store = ac.capture(model, IMAGES)
    gradients = ac.capture_gradients(model, IMAGES, target=0)
    query = torch.rand(1, 2, 3, 4)
    data = evals.ClutteredDigits("test", 3)
    result = evals.benchmark(
        linear(),
        list(torch.rand(3, 3, 8, 8)),
        {"magnitude": evals.InputMagnitude((2, 2)), "plain <b>": evals.InputMagnitude((2, 2))},
        [metrics.Deletion()],
    )
    ids = torch.ones(1, 3, dtype=torch.long)
    made: list[Any] = [
        *(kind(model) for kind in method_classes().values()),
        ac.MetastableStates(),
        AttentionBlock("block", query[..., :3], query, query[0, 0, 0], query[0], query[0], None, query[0]),
        gradients,
        ac.gradients.EncoderDecoderGradients(gradients, gradients, gradients, store.names),
        store,
        store.chain(),
        store[0],
        store.tokens,
        ac.sinks(store),
        *(kind() for kind in (ac.Bounces, ac.ClassRows, ac.ColumnSums, ac.Entropies, ac.SecondEigenvalues)),
        ac.StationaryVectors(),
        ac.Factors(query, query),
        ac.Reading(kind="encoder"),
        LayerNorm(query[0, 0, 0]),
        LoadedModel(model, None, {"x": IMAGES}),
        ac.mixing(store.chain()),
        (proof := ac.prove(model, IMAGES)),
        proof.layers[0],
        ac.capture(model, IMAGES, keep=[ac.StationaryVectors()]),
        ac.TextAttribution(ac.TokenRank(model)),
        ac.TextAttributionResult(input_tokens=["a"], output_tokens=["b"], token_attr=torch.ones(1, 1), policy="last"),
        *(kind() for kind in (evals.AttentionMask, evals.Blur, evals.KernelBlur, evals.MaskToken, evals.MeanColour)),
        *(kind() for kind in (evals.NoisyLinear, evals.TokenDrop, evals.Zero, evals.Protocol, evals.Superpixels)),
        evals.Black((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        data,
        data[0],
        evals.ImageFolder(folder, lambda image: torch.zeros(1, 3, 8, 8)),
        evals.ClassFolder(folder.parent, lambda image: torch.zeros(1, 3, 8, 8)),
        evals.ImageNetSegmentation(segments, lambda image: torch.zeros(1, 3, 8, 8)),
        evals.WholeImage(lambda image: torch.tensor(image.getpixel((0, 0)))[:, None, None].expand(1, 3, 8, 8) / 255),
        evals.Passage(ids[0]),
        evals.PadToken(),
        evals.ReplaceToken(3),
        evals.TokenDelete(),
        ac.diffusion.SamplingAttention(),
        ac.explore(store, IMAGES[:1]),
        evals.InputMagnitude((2, 2)),
        evals.CentrePrior((2, 2)),
        evals.FeatureComponent(model, (2, 2)),
        evals.MeanEmbedding(),
        evals.Segmented(IMAGES[0], torch.zeros(2, 8, 8, dtype=torch.long)),
        (pairs := evals.KeyValues("test", 3)),
        pairs[0],
        evals.Perturbation(linear(), IMAGES),
        evals.perturbation_curve(linear(), IMAGES, torch.rand(2, 2, 2)),
        evals.Trial(linear(), IMAGES, ids[0]),
        result,
        *(getattr(metrics, name)() for name in ("Deletion", "Insertion", "SRG", "PixelAccuracy", "SaCo")),
    ]
    return {type(thing).__name__: thing for thing in made}


def test_every_public_class_is_among_them(objects: dict[str, Any]) -> None:
    public = {name for package in (ac, evals) for name in dir(package) if inspect.isclass(getattr(package, name))}
    assert public - ABSTRACT - SHOWN_AS_TYPES - ELSEWHERE <= set(objects)


def test_each_says_what_it_is(objects: dict[str, Any]) -> None:
    adapters = [adapter_named(name) for name in ("timm", "transformers", "torch", "nnsight", "diffusers")]
    for thing in (*objects.values(), *adapters):
        said = repr(thing)
        assert said.startswith(type(thing).__name__), said
        assert " object at 0x" not in said
        assert "tensor(" not in said
        assert len(said) <= 320, said
        assert said.count("\n") <= 2


def test_settings_that_differ_from_the_defaults() -> None:
    assert repr(ac.TokenRank()) == "TokenRank()"
    assert repr(ac.TokenRank(Linear(), damping=0.9, layers=[-2, -1])) == "TokenRank(Linear, layers=[-2, -1], damping=0.9)"
    assert repr(ac.TokenRank(personalization=torch.ones(3))) == "TokenRank(personalization=float32 (3,))"
    assert repr(ac.MultiBounce(start=torch.ones(1, 3))) == "MultiBounce(start=float32 (1, 3))"
    assert repr(ac.RandomRanking(seed=1)) == "RandomRanking(seed=1)"
    assert repr(ac.Rollout(lambda x: x)).startswith("Rollout(test_settings")
    assert repr(evals.ClutteredDigits("train", seed=2)) == "ClutteredDigits(split='train', seed=2)"


def test_a_store_says_what_it_holds_in_three_lines(objects: dict[str, Any]) -> None:
    first, second, third = repr(objects["AttentionStore"]).split("\n")
    assert first == "AttentionStore of VisionTransformer: batch 2, 2 layers (blocks.0.attn … blocks.1.attn), 3 heads"
    assert second == "  5 tokens: 1 class, 4 patch; grid 2×2"
    assert third == "  maps, float32 on cpu, 0.0 MB"
    padded = ac.TokenLayout.text(torch.tensor([[1, 1, 0], [1, 1, 1]]))
    assert repr(padded) == "TokenLayout(batch 2, 3 tokens: 2 text, 1 pad in the first example)"


def test_what_a_notebook_shows(objects: dict[str, Any], tmp_path: Path) -> None:
    table = objects["BenchmarkResult"]._repr_html_()
    assert table.count("<tr") == 3
    assert "plain &lt;b&gt;" in table
    curve = evals.PerturbationCurve(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[1.0, 0.5, 0.0]]))
    svg = curve._repr_html_()
    assert svg is not None
    assert 'points="40.0,10.0 170.0,140.0 300.0,270.0"' in svg
    assert "mean of 1, AUC 0.500" in svg
    assert evals.PerturbationCurve(curve.fractions, -curve.scores)._repr_html_() is None


def test_long_lists_are_shortened_and_settings_compared() -> None:
    assert brief(list(range(9))) == "[0, 1, …, 8]"
    assert brief((torch.zeros(2), 1)) == "(float32 (2,), 1)"
    assert brief(torch.nn.Linear(1, 1)) == "Linear"
    assert with_settings(ac.MultiBounce(steps=3)) == "MultiBounce(steps=3)"
