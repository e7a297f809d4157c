"""The names of methods, with settings that are checked, and of metrics, on the command line."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from attnchain_evals.terminal import did_you_mean
from attnchain_interp import AttentionError

if TYPE_CHECKING:
    from attnchain_evals.metrics.example_metric import ExampleMetric

PLAIN: dict[str, Any] = {"layers": "all", "layer_weights": "mean", "balanced": False, "maps": "attention"}
"""The published settings of walks: attention, the plain mean of all layers."""

ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "class row": ("RawAttention", {"token": "class"}),
    "class column": ("RawAttention", {"token": "class", "select": "column"}),
    "centre row": ("RawAttention", {"token": "center"}),
    "centre column": ("RawAttention", {"token": "center", "select": "column"}),
    "FeatureAblation": ("LeaveOneOut", {}),  # by Captum's names
    "ShapleyValueSampling": ("ShapleyValues", {"method": "sampling"}),
    "KernelShap": ("ShapleyValues", {"method": "kernel"}),
    "plain TokenRank": ("TokenRank", PLAIN),
    "plain MultiBounce": ("MultiBounce", PLAIN),
}
CONTROL = "input magnitude"
CONTROLS = (CONTROL, "centre prior", "feature component")
"""Controls for images."""
_STRICT = ConfigDict(arbitrary_types_allowed=True, strict=True)
STANDARD = ("TokenRank", "MultiBounce", "Rollout", "GradientAttention", "RandomRanking")


def method_classes() -> dict[str, type[Any]]:
    """Returns name → class of every public attribution method that scores tokens."""
    from attnchain_interp import attribution
    from attnchain_interp.attribution import TokenAttribution

    classes = {name: getattr(attribution, name) for name in attribution.__all__}
    return {
        name: kind
        for name, kind in sorted(classes.items())
        if isinstance(kind, type)
        and issubclass(kind, TokenAttribution)
        and not inspect.isabstract(kind)
        and name != "MetastableStates"  # gives labels
    }


def method_names() -> list[str]:
    return [*method_classes(), *ALIASES, *CONTROLS]


def standard_methods(text: bool) -> list[str]:
    """Returns the methods that are measured by default."""
    return [*STANDARD, *([] if text else [CONTROL])]


def build_methods(specs: Iterable[str], model: Any, grid: tuple[int, int] | None) -> dict[str, Any]:
    """Returns spec → method. A spec is a name, or a name with settings: "MultiBounce(steps=3, heads='lambda2')"."""
    return {spec: _build(spec, model, grid) for spec in specs}


def method_of(spec: str) -> Callable[[Any], Any]:
    """Returns a function from a model to the method of a spec."""
    kind, settings = _class_of(spec)
    check_settings(spec, kind, settings)
    return lambda model: kind(model, **settings)


def check_methods(specs: Iterable[str]) -> None:
    """Refuses specs that name no method, or settings that it does not take, before a model is there."""
    for spec in specs:
        if spec not in CONTROLS:
            method_of(spec)(None)


def method_class(spec: str) -> type[Any]:
    """Returns the class of the method of a spec."""
    return _class_of(spec)[0]


def _build(spec: str, model: Any, grid: tuple[int, int] | None) -> Any:
    from attnchain_evals.bench.image_controls import CentrePrior, FeatureComponent, InputMagnitude
    from attnchain_interp import AttentionAttribution, AttentionGradientAttribution

    if spec in CONTROLS:
        if grid is None:
            raise AttentionError(f"{spec!r} is a control for images, not for texts.", "Use RandomRanking.")
        kinds = {CONTROL: InputMagnitude, "centre prior": CentrePrior}
        return kinds[spec](grid, model) if spec in kinds else FeatureComponent(model, grid)
    kind, _ = _class_of(spec)
    plain = AttentionGradientAttribution
    one_backward = issubclass(kind, plain) and (kind.read, kind.captured) == (plain.read, plain.captured)
    reads_shared = one_backward or issubclass(kind, AttentionAttribution)
    return method_of(spec)(None if reads_shared else model)


def _class_of(spec: str) -> tuple[type[Any], dict[str, Any]]:
    name, settings = parsed(spec)
    name, fixed = ALIASES.get(name, (name, {}))
    classes = method_classes()
    if name == "MetastableStates":
        raise AttentionError(
            "MetastableStates gives each token a state, not a score.", "Draw the states: attnchain figure states."
        )
    if name not in classes:
        raise AttentionError(
            f"method {name!r} is unknown.{did_you_mean(name, method_names())}", f"Use one of {', '.join(method_names())}."
        )
    return classes[name], fixed | settings


def parsed(spec: str) -> tuple[str, dict[str, Any]]:
    """Returns the name and the settings of a spec.

    >>> parsed("MultiBounce(steps=3, layers=[-2, -1])")
    ('MultiBounce', {'steps': 3, 'layers': [-2, -1]})
    """
    match = re.fullmatch(r"([^(]+?)\s*(?:\((.*)\))?", spec.strip(), re.DOTALL)
    try:
        if match is None:
            raise ValueError("no name")
        call = ast.parse(f"f({match[2] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
            raise ValueError("settings must have names")
        return match[1], {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        said = "a setting is no number and no text in quotes" if "malformed node" in str(error) else error
        raise AttentionError(
            f"{spec!r} is not understood ({said}).",
            "Write NAME or NAME(setting=value, …). A shell needs other quotes around the whole: \"NAME(x='y')\".",
        ) from error


def with_settings(spec: str, **settings: Any) -> str:
    """Returns a spec with further settings.

    Raises:
        AttentionError: as `parsed`.

    >>> with_settings("MultiBounce(steps=3)", maps="alti")
    "MultiBounce(steps=3, maps='alti')"
    """
    name, own = parsed(spec)
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in (own | settings).items())})"


def split(text: str) -> list[str]:
    """Splits a text at the commas outside brackets.

    >>> split("TokenRank, MultiBounce(steps=3, layers=(-2, -1))")
    ['TokenRank', 'MultiBounce(steps=3, layers=(-2, -1))']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def from_grid(grid: Mapping[str, Mapping[str, list[Any]]]) -> Iterator[str]:
    """Yields the spec of every combination of settings.

    >>> list(from_grid({"TokenRank": {"damping": [0.85, 0.99], "heads": ["mean"]}}))
    ["TokenRank(damping=0.85, heads='mean')", "TokenRank(damping=0.99, heads='mean')"]
    """
    for name, choices in grid.items():
        for values in product(*choices.values()):
            settings = ", ".join(f"{key}={value!r}" for key, value in zip(choices, values, strict=True))
            yield f"{name}({settings})"


def metric_names() -> list[str]:
    from attnchain_evals.metrics import PRESETS

    return list(dict.fromkeys([*_standard(), *PRESETS]))


def build_metrics(specs: Iterable[str], text: bool = False) -> list[ExampleMetric]:
    """Builds metrics from specs: "deletion/mean", or a preset of the literature with its settings: "saco(groups=5)".

    Args:
        text: give presets the settings for texts (`TEXT`) where they say what is removed and the spec does not.
    """
    return [_metric(spec, text) for spec in specs]


def _metric(spec: str, text: bool) -> ExampleMetric:
    from attnchain_evals.metrics import OF_TEXT, PRESETS, TEXT, preset

    name, settings = parsed(spec)
    standard = _standard()
    if name in standard and not settings:
        return standard[name]
    if name not in PRESETS:
        raise AttentionError(
            f"metric {spec!r} is unknown.{did_you_mean(name, metric_names())}", f"Use one of {', '.join(metric_names())}."
        )
    metric = preset(name, **((TEXT if text and name in OF_TEXT else {}) | settings))
    metric.name = spec if settings else name
    return metric


def _standard() -> dict[str, ExampleMetric]:
    from attnchain_evals.metrics import curve_metrics, localisation_metrics, text_metrics

    return {metric.name: metric for metric in (*curve_metrics(), *localisation_metrics(), *text_metrics())}


def check_settings(spec: str, kind: type[Any], settings: Mapping[str, Any]) -> None:
    """Refuses settings that the class does not have, or whose type it does not take."""
    parameters = inspect.signature(kind).parameters
    known = [name for name in parameters if name != "forward_func"]
    for name, value in settings.items():
        if name not in known:
            raise AttentionError(
                f"method {spec!r} has no setting {name!r}.", f"Its settings are {', '.join(known) or 'none'}."
            )
        try:
            TypeAdapter(get_type_hints(kind.__init__)[name], config=_STRICT).validate_python(value)
        except ValidationError as error:
            allowed = " or ".join(dict.fromkeys(each["msg"].removeprefix("Input should be ") for each in error.errors()))
            raise AttentionError(
                f"method {spec!r}: {name} is {value!r}; it must be {allowed}.", f"The default is {parameters[name].default!r}."
            ) from error
