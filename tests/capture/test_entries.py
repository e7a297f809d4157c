"""The methods that run known models, replaced for one forward."""

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from torch import nn

import attnchain_interp as ac
from attnchain_interp.capture.entries import Entries, Known, known_models


class Adapter:
    """Knows linear layers, by two methods."""

    supported = ""

    def recognises(self, source: Any) -> bool:
        return isinstance(source, nn.Linear)

    def entries(self, module: nn.Module) -> tuple[str, ...]:
        return ("forward", "features") if self.recognises(module) else ()

    def capture(self) -> None: ...

    def load(self) -> None: ...


class Linear(nn.Linear):
    def forward(self, x: Any) -> str:  # type: ignore[override]
        return f"forward of {self.features(x)}"

    def features(self, x: Any) -> str:
        return f"features of {x}"


ADAPTER: Any = Adapter()
Read = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


def model() -> nn.ModuleDict:
    return nn.ModuleDict({"a": nn.ModuleList([Linear(1, 1)]), "b": Linear(1, 1)})


def opened(whole: nn.Module, read: Read) -> Entries[str]:
    def reading(
        known: Known, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any], runs: Callable[..., Any], told: Any
    ) -> str:
        assert called is known.module
        read.append((known.path, args, kwargs))
        told(runs(*args, **kwargs))
        return "result"

    return Entries("Whole", known_models(whole, [ADAPTER]), reading)


def test_known_models_are_found_by_their_paths() -> None:
    whole = model()
    found = known_models(whole, [ADAPTER])
    assert [(each.path, each.module, each.entries) for each in found] == [
        ("a.0", whole["a"][0], ("forward", "features")),  # type: ignore[index]
        ("b", whole["b"], ("forward", "features")),
    ]
    assert str(found[0]) == "a.0 (Linear)"


@pytest.mark.parametrize("method", ["forward", "features"])
def test_the_first_call_is_read_and_the_output_is_handed_on(method: str) -> None:
    whole, read = model(), Read()
    own: Any = whole["b"]
    hooks: list[str] = []
    own.register_forward_hook(lambda _, __, output: hooks.append(output))
    expected = getattr(own, method)("x")
    with opened(whole, read) as entries:
        output = own("x") if method == "forward" else own.features("x")
    assert output == expected
    result, known = entries.result()
    assert (result, known.path) == ("result", "b")
    assert read == [("b", ("x",), {})], "the features that forward calls are a part of it"
    assert hooks == [expected] * (method == "forward")
    assert not {"forward", "features"} & vars(own).keys()


def test_a_forward_of_the_instance_is_put_back() -> None:
    whole, read = model(), Read()
    own: Any = whole["b"]
    own.forward = lambda x: f"replaced {x}"

    def fails() -> None:
        with opened(whole, read):
            assert own("x") == "replaced x"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert own("x") == "replaced x"
    assert len(read) == 1


def test_a_second_run_is_refused_even_where_the_forward_catches_it() -> None:
    whole = model()
    own = whole["b"]
    with opened(whole, []) as entries:
        own("x")
        with pytest.raises(ac.AttentionError):
            own("y")
    with pytest.raises(ac.AttentionError, match=r"(?s)b \(Linear\) runs more than once in Whole.*get_submodule\(\"b\"\)"):
        entries.result()


def test_several_models_are_refused_by_their_paths() -> None:
    whole: Any = model()
    with opened(whole, []):
        whole["b"]("x")
        with pytest.raises(ac.AttentionError, match=r'(?s)b \(Linear\) and a.0 \(Linear\).*tower="a.0"'):
            whole["a"][0]("x")


def test_none_is_refused() -> None:
    with opened(model(), []) as entries:
        pass
    with pytest.raises(ac.AttentionError, match=r"(?s)Whole does not call the known model inside, a.0 \(Linear\), b"):
        entries.result()


def test_other_threads_run_as_they_would() -> None:
    whole, read, found = model(), Read(), []
    with opened(whole, read):
        thread = Thread(target=lambda: found.append(whole["b"]("x")))
        thread.start()
        thread.join()
    assert found == ["forward of features of x"]
    assert not read
