"""The table of timm's models: every class of timm is known or refused."""

from __future__ import annotations

import importlib
import inspect

import timm
from torch import nn

from attnchain_adapters.timm_models.families import FAMILIES, REFUSED


def test_every_model_class_of_timm_is_known() -> None:
    modules = [importlib.import_module(f"timm.models.{name}") for name in timm.list_modules()]
    named = {name: getattr(module, name) for module in modules for name in module.__all__}
    classes = {name for name, named in named.items() if inspect.isclass(named) and issubclass(named, nn.Module)}
    assert len(classes) > 90
    parts = {
        "BasicBlock",
        "Bottleneck",
        "ClassAttn",
        "LayerScaleBlock",
        "LayerScaleBlockClassAttn",
        "MixerBlock",
        "TalkingHeadAttn",
    }
    assert classes - parts <= set(FAMILIES) | set(REFUSED)
