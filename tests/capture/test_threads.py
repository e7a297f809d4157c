"""One thread at a time reads a model, and the calls of other threads are what they would be."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Thread
from typing import Any
from weakref import ref

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.attribution import AttnLRP, LeaveOneOut, LogitTokenRank
from attnchain_interp.capture import of_this_thread
from attnchain_interp.capture.threads import in_turn, replaced_methods, turn
from attnchain_interp.gradients import logits_of

from ..attribution import small_models as small


def in_another_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(30)


def waits(source: Any) -> bool:
    """Returns whether another thread waits for the turn of a source."""
    entered = Event()

    def enter() -> None:
        with turn(source):
            entered.set()

    Thread(target=enter, daemon=True).start()
    return not entered.wait(0.5)


def test_one_thread_at_a_time_is_in_the_turn_of_a_model() -> None:
    model = nn.Linear(1, 1)
    with turn(model):
        with turn(model.forward):  # the same thread
            assert waits(model)
        assert waits(model.forward)
        assert waits(torch.compile(model))
        assert not waits(nn.Linear(1, 1))
        assert not waits(test_one_thread_at_a_time_is_in_the_turn_of_a_model)
    assert not waits(model)


def test_functions_of_a_source_run_in_turn() -> None:
    running, most = [0], [0]

    @in_turn
    def read(source: nn.Module, seconds: float) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(seconds)
        running[0] -= 1

    model = nn.Linear(1, 1)
    for call in (partial(read, model, 0.02), partial(read, source=model, seconds=0.02)):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _, call=call: call(), range(4)))
        assert most == [1]
    with pytest.raises(TypeError, match="missing 2 required"):
        read()  # type: ignore[call-arg]


def test_a_model_is_copied_pickled_and_forgotten_as_before() -> None:
    model = nn.Linear(1, 1)
    with turn(model):
        assert isinstance(copy.deepcopy(model), nn.Linear)
        assert pickle.dumps(model)
    there = ref(model)
    del model
    gc.collect()
    assert there() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_process_waits_for_no_thread_of_its_parent() -> None:
    model, held, done = nn.Linear(1, 1), Event(), Event()

    def hold() -> None:
        with turn(model):
            held.set()
            done.wait(30)

    thread = Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        lock: Any = turn(model)
        os._exit(not lock.acquire(timeout=1))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    done.set()
    thread.join()


class Greeting(nn.Module):
    def forward(self, x: str) -> str:
        return f"hello {x}"


def test_methods_are_replaced_for_this_thread_while_open() -> None:
    model, found = Greeting(), []
    with replaced_methods([(model, "forward", lambda x: found.append(x))]):
        during = model.forward
        model("a")
        assert in_another_thread(lambda: model("b")) == "hello b"
    assert found == ["a"]
    assert "forward" not in vars(model)
    assert during("c") == "hello c", "whoever took the method while it was replaced"


def test_a_method_of_the_instance_is_put_back() -> None:
    model: Any = Greeting()
    model.forward = own = lambda x: f"own {x}"
    with pytest.raises(TypeError, match="str"), replaced_methods([(model, "forward", lambda x: 1 + x)]):
        model("a")
    assert vars(model)["forward"] is own


def test_other_threads_pass_by_a_hook() -> None:
    model = Greeting()
    with model.register_forward_hook(of_this_thread(lambda _, given, output: f"{given[0]}: {output}")):
        assert model("a") == "a: hello a"
        assert in_another_thread(lambda: model("b")) == "hello b"


def test_a_hook_whose_handle_is_removed_while_another_thread_runs_the_module() -> None:
    """Torch then calls the hook without the keyword arguments that it was registered for."""
    model, begun, removed = Greeting(), Event(), Event()

    def pause(*_: object) -> None:
        begun.set()
        removed.wait(30)

    model.register_forward_pre_hook(pause)
    handles = [model.register_forward_pre_hook(of_this_thread(lambda *_: None), with_kwargs=True)]
    handles.append(model.register_forward_hook(of_this_thread(lambda *_: None), with_kwargs=True, always_call=True))
    with ThreadPoolExecutor(1) as pool:
        output = pool.submit(model, "a")
        begun.wait(30)
        for handle in handles:
            handle.remove()
        removed.set()
        assert output.result(30) == "hello a"


class Around(nn.Module):
    """A module of a user around a known model."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x)


def shared(build: Callable[[], Any]) -> Any:
    """Returns a model that pauses in each forward, so that those of two threads overlap."""
    model = build()
    norm = next(module for name, module in model.named_modules() if name.split(".")[-1] == "norm")
    norm.register_forward_hook(lambda *_: time.sleep(0.005))
    return model


def of_images(method: Any, **settings: Any) -> Callable[[Any], Tensor]:
    return lambda model: method(model, **settings).attribute(small.images(1), 1, output="tokens")


def of_ids(method: Any, **settings: Any) -> Callable[[Any], Tensor]:
    return lambda model: method(model, **settings).attribute(small.ids(1), (-1, 5), output="tokens")


CALLS: dict[str, tuple[Callable[[], Any], Callable[[Any], Tensor]]] = {
    "capture": (small.vit, lambda model: ac.capture(model, small.images(1)).maps()),
    "contributions": (small.vit, lambda model: ac.capture(model, small.images(1), maps="alti").maps()),
    "prove": (small.vit, lambda model: torch.tensor([each.moved for each in ac.prove(model, small.images(1)).layers])),
    "TokenRank of a module around": (lambda: Around(small.vit()), of_images(ac.TokenRank)),
    "GradientAttention of a module around": (lambda: Around(small.vit()), of_images(ac.GradientAttention)),
    "LeGrad": (small.vit, of_images(ac.LeGrad)),
    "LogitTokenRank": (small.llama, of_ids(LogitTokenRank)),
    "AttnLRP": (small.llama, of_ids(AttnLRP)),
    "LeaveOneOut": (small.llama, of_ids(LeaveOneOut, removal="mean-embedding")),
}


@pytest.mark.parametrize("name", CALLS)
def test_threads_that_share_a_model_have_what_each_has_alone(name: str) -> None:
    build, call = CALLS[name]
    model = shared(build)
    alone, inputs = call(model), small.ids(1) if build is small.llama else small.images(1)
    output = logits_of(model(inputs))
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(call, [model] * 4))
    assert all(torch.equal(each, alone) for each in together)
    assert torch.equal(logits_of(model(inputs)), output)
    assert not [each for each, module in model.named_modules() if "forward" in vars(module)]


@pytest.mark.parametrize("name", CALLS)
def test_forwards_of_another_thread_are_what_they_would_be(name: str) -> None:
    build, call = CALLS[name]
    model, done, outputs = shared(build), Event(), []
    inputs = small.ids(1).flip(1) if build is small.llama else small.images(1) + 1
    alone, output = call(model), logits_of(model(inputs)).detach()

    def serve() -> None:
        while not done.is_set():
            outputs.append(logits_of(model(inputs)).detach())

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        found = [call(model) for _ in range(8)]
        done.set()
        served.result(30)
    assert outputs
    assert all(torch.equal(each, output) for each in outputs)
    assert all(torch.equal(each, alone) for each in found)


def test_modules_around_one_model_are_read_at_once() -> None:
    """Each has a turn of its own. The first one is done while the other one runs."""
    inside, began, done = small.vit(), Event(), Event()
    first, second = Around(inside), Around(inside)
    first.register_forward_pre_hook(lambda *_: began.wait(30) and None)
    second.register_forward_pre_hook(lambda *_: began.set() or (done.wait(30) and None))
    images = small.images(1)

    def read_first() -> Tensor:
        maps = ac.capture(first, images).maps()
        done.set()
        return maps

    with ThreadPoolExecutor(2) as pool:
        found = [each.result(30) for each in (pool.submit(read_first), pool.submit(lambda: ac.capture(second, images).maps()))]
    assert all(torch.equal(each, ac.capture(inside, images).maps()) for each in found)
    assert not [name for name, module in first.named_modules() if "forward" in vars(module)]
    pickle.dumps(inside)
