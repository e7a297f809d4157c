"""Plain runs: compiled parts are watched uncompiled, blocks are not computed again, and all is as it was afterwards."""

from __future__ import annotations

import copy
from collections.abc import Callable
from threading import Barrier, Event, Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.utils.checkpoint import checkpoint

import attnchain_interp as ac
from attnchain_interp.capture import plain_run

from ..attribution import small_models as small

METHODS = (ac.GradientAttention, ac.LeGrad)


def refused(graph: Any, inputs: Any) -> Any:
    raise AssertionError("compiled code ran")


def first(model: Any, name: str, compiled: Callable[[Any], Any]) -> None:
    blocks = model.get_submodule(name)
    blocks[0] = compiled(blocks[0])


def in_place(module: nn.Module) -> nn.Module:
    module.compile(backend=refused)
    return module


def by_forward(module: Any) -> nn.Module:
    module.forward = torch.compile(module.forward, backend=refused)
    return module


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend=refused)


WAYS: dict[str, Callable[[Any, str], Any]] = {
    "the whole": lambda model, _: compiled(model),
    "the whole, in place": lambda model, _: in_place(model),
    "its forward": lambda model, _: by_forward(model),
    "a block": lambda model, name: first(model, name, compiled),
    "a block, in place": lambda model, name: first(model, name, in_place),
    "the forward of a block": lambda model, name: first(model, name, by_forward),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("build", "blocks", "inputs"),
    [
        (small.vit, "blocks", small.images),
        (small.bert, "bert.encoder.layer", small.ids),
        (small.llama, "model.layers", small.ids),
    ],
)
def test_what_is_compiled_is_watched_as_it_is_written(
    build: Callable[[], Any], blocks: str, inputs: Callable[[], Tensor], way: Callable[[Any, str], Any]
) -> None:
    model, given = build(), inputs()
    store, target = ac.capture(model, given), (3, 5) if blocks == "model.layers" else 1
    scores = [method(model).attribute(given, target, output="tokens") for method in METHODS]
    changed = copy.deepcopy(model)
    whole = way(changed, blocks)
    changed = changed if whole is None else whole
    assert torch.equal(ac.capture(changed, given).maps(), store.maps())
    for method, expected in zip(METHODS, scores, strict=True):
        assert torch.equal(method(changed).attribute(given, target, output="tokens"), expected)
    assert ac.prove(changed, given).holds
    assert torch.equal(ac.capture(changed, given, maps="alti").maps(), ac.capture(model, given, maps="alti").maps())
    with pytest.raises(BackendCompilerFailed, match="compiled code ran"):
        changed(given)


def test_the_compiler_is_put_back_when_the_last_thread_is_done() -> None:
    double = torch.compile(lambda x: (2 * x, torch.compiler.is_compiling()), backend="eager")
    entered, left = Barrier(2), Barrier(2)

    def other() -> None:
        with plain_run(None):
            entered.wait()
            left.wait()

    thread = Thread(target=other)
    with plain_run(None):
        thread.start()
        entered.wait()
        assert not double(torch.ones(1))[1]
    assert not double(torch.ones(1))[1]  # the other thread is not done
    left.wait()
    thread.join()
    assert double(torch.ones(1))[1]


def test_captures_that_overlap_leave_the_compiler_as_it_was() -> None:
    double = torch.compile(lambda x: (2 * x, torch.compiler.is_compiling()), backend="eager")
    assert double(torch.ones(1))[1]
    first, second, images = small.vit(), small.vit(), small.images()
    begun, both, done = Event(), Event(), Event()

    def in_the_first(*_: object) -> None:
        begun.set()
        both.wait(30)

    def in_the_second(*_: object) -> None:
        both.set()
        done.wait(30)

    first.blocks[0].register_forward_hook(in_the_first)
    second.blocks[0].register_forward_hook(in_the_second)

    def other() -> None:
        begun.wait(30)
        ac.capture(second, images)

    thread = Thread(target=other)
    earlier = Thread(target=lambda: (ac.capture(first, images), done.set()))
    thread.start()
    earlier.start()
    earlier.join()
    thread.join()
    assert double(torch.ones(1))[1]


def test_switches_of_checkpointing_are_off_and_put_back_when_a_run_raises() -> None:
    model = small.vit()
    model.set_grad_checkpointing(True)
    switches = []

    def run() -> None:
        with plain_run(model.forward_features):
            switches.append(model.grad_checkpointing)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        run()
    assert switches == [False]
    assert model.grad_checkpointing is True


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("build", [small.vit, small.bert, small.llama])
def test_gradient_checkpointing_changes_no_number(build: Callable[[], Any], reentrant: bool) -> None:
    model, given, target = build(), small.images() if build is small.vit else small.ids(), 1
    target = (3, 5) if build is small.llama else 1
    expected = [method(model).attribute(given, target, output="tokens") for method in METHODS]
    contributions = ac.capture(model, given, maps="alti").maps()
    if build is small.vit:
        model.set_grad_checkpointing(True)
    else:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        for module in model.modules():  # in train mode, without dropout, as it is where checkpointing takes effect
            module.training = True
            for rate in ("p", "attention_dropout", "dropout_prob"):
                if isinstance(getattr(module, rate, None), float):
                    setattr(module, rate, 0.0)
    for method, scores in zip(METHODS, expected, strict=True):
        assert torch.equal(method(model).attribute(given, target, output="tokens"), scores)
    assert torch.equal(ac.capture(model, given, maps="alti").maps(), contributions)


class Checkpointed(nn.Module):
    """A user's own block: it has no switch."""

    def __init__(self, block: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.block, self.reentrant = block, reentrant

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(self.block, *args, use_reentrant=self.reentrant, **kwargs)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_model_that_calls_checkpoint_itself(reentrant: bool, fused: bool) -> None:
    plain, images = small.vit(fused=fused), small.images()
    model = copy.deepcopy(plain)
    for k, block in enumerate(model.blocks):
        model.blocks[k] = Checkpointed(block, reentrant)
    assert torch.equal(ac.capture(model, images).maps(), ac.capture(plain, images).maps())
    for method in METHODS:
        with pytest.raises(ac.AttentionError, match=r"torch\.utils\.checkpoint"):
            method(model).attribute(images, 1)
    model = copy.deepcopy(plain)
    model.blocks[1].mlp = Checkpointed(plain.blocks[1].mlp, reentrant)
    if reentrant:
        with pytest.raises(ac.AttentionError, match=r"calls torch\.utils\.checkpoint in its forward"):
            ac.GradientAttention(model).attribute(images, 1)
    else:
        assert torch.equal(ac.GradientAttention(model).attribute(images, 1), ac.GradientAttention(plain).attribute(images, 1))
