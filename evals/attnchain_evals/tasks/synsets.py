"""ImageNet's classes by their WordNet ids, as timm lists them."""

from __future__ import annotations

from functools import cache


@cache
def synset_names() -> dict[str, str]:
    """WordNet id → words, of the 21,841 classes of ImageNet-22k."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    return {synset: info.label_name_to_description(synset) for synset in info.label_names()}


@cache
def synset_classes() -> dict[str, int]:
    """WordNet id → number of the class, of the 1,000 classes of ImageNet-1k as models have them."""
    from timm.data.imagenet_info import ImageNetInfo

    return {synset: index for index, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}
