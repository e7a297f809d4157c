"""Which tokens attention makes important, on a map that is small enough to check by hand.

The functions on pipelines hand every argument to the adapter that recognises the pipeline.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import diffusion
from attnchain_interp.diffusion import pipelines

MAP = torch.tensor([[0.2, 0.8, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0], [0.2, 0.2, 0.6, 0.0], [0.1, 0.3, 0.6, 0.0]])


def store() -> ac.AttentionStore:
    return ac.AttentionStore.from_maps([MAP[None, None]], ac.TokenLayout.image(1, (2, 2)))


def test_column_sums_above_one() -> None:
    assert diffusion.important_tokens(store(), "column-sum").tolist() == [[False, True, True, False]]


def test_a_token_that_the_walk_leaves_is_not_important_by_token_rank() -> None:
    assert diffusion.important_tokens(store(), "token-rank").tolist() == [[False, True, False, False]]


def test_random_tokens_are_as_many_as_those_of_token_rank() -> None:
    drawn = [diffusion.important_tokens(store(), "random", torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert {int(mask.sum()) for mask in drawn} == {1}
    assert len({mask.long().argmax().item() for mask in drawn}) > 1


def test_another_importance_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="importance='rank' is unknown"):
        diffusion.important_tokens(store(), "rank")  # type: ignore[arg-type]


class Recorder:
    """An adapter that recognises strings as pipelines and writes down how it is called."""

    supported = "strings"

    def __init__(self) -> None:
        self.called: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def recognises(self, source: Any) -> bool:
        return False

    def capture(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError

    def load(self, name: str) -> Any:
        raise NotImplementedError

    def recognises_pipeline(self, pipe: Any) -> bool:
        return isinstance(pipe, str)

    def load_pipeline(self, name: str, **options: Any) -> Any:
        return name

    def joins_text(self, pipe: Any) -> bool:
        return True

    def capture_pipeline(self, *arguments: Any, **options: Any) -> Any:
        self.called["capture_pipeline"] = arguments, options
        return nullcontext(diffusion.SamplingAttention())

    def self_attention_guidance(self, *arguments: Any, **options: Any) -> Any:
        self.called["self_attention_guidance"] = arguments, options
        return nullcontext()

    def denoise_image(self, *arguments: Any, **options: Any) -> torch.Tensor:
        self.called["denoise_image"] = arguments, options
        return torch.zeros(1)


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(pipelines, "adapters", lambda: [("strings", made)])
    return made


def test_every_argument_arrives_with_its_default(adapter: Recorder) -> None:
    diffusion.capture_pipeline("pipe", "self", heads="lambda2")
    arguments, options = adapter.called["capture_pipeline"]
    assert arguments == ("pipe",)
    assert options == {
        "kind": "self",
        "grid": None,
        "layers": "all",
        "steps": slice(None),
        "heads": "lambda2",
        "each_layer": False,
        "prompt": None,
    }
    diffusion.self_attention_guidance("pipe", kernel=5)
    arguments, options = adapter.called["self_attention_guidance"]
    assert options["kernel"] == 5
    assert set(options) == {"scale", "importance", "layers", "grid", "kernel", "sigma", "generator"}
    diffusion.denoise_image("pipe", "image", "a prompt", max_sequence_length=8)
    arguments, options = adapter.called["denoise_image"]
    assert arguments == ("pipe", "image")
    assert options == {"prompt": "a prompt", "timestep": 250, "generator": None, "call": {"max_sequence_length": 8}}


def test_a_pipeline_that_no_adapter_recognises(adapter: Recorder) -> None:
    for call in (diffusion.capture_pipeline, diffusion.self_attention_guidance, lambda pipe: diffusion.denoise_image(pipe, 0)):
        with pytest.raises(ac.AttentionError, match="int is not a pipeline that is known"):
            call(3)
    assert adapter.called == {}


def test_the_mean_is_read_after_the_block(adapter: Recorder) -> None:
    with diffusion.capture_pipeline("pipe") as run:
        with pytest.raises(ac.AttentionError, match="when the with block is left"):
            _ = run.store
        run.gathered = store = ac.AttentionStore.from_maps([torch.eye(3)[None, None]])
    assert run.store is store
