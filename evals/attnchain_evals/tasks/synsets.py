"""The classes of ImageNet by their WordNet ids, from timm."""

from __future__ import annotations

from functools import cache


@cache
def synset_names() -> dict[str, str]:
    """Returns the words of the 21,841 classes of ImageNet-22k, by WordNet id."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    return {synset: info.label_name_to_description(synset) for synset in info.label_names()}


@cache
def synset_classes() -> dict[str, int]:
    """Returns the number that models give each of the 1,000 classes of ImageNet-1k, by WordNet id."""
    from timm.data.imagenet_info import ImageNetInfo

    return {synset: index for index, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}
