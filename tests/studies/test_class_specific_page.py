from studies.backbones import BACKBONES, TRAINED
from studies.class_specific import OURS, methods
from studies.class_specific_page import RIVALS, answer, difference, page, table, verdict
from studies.expected_visits_variants import variants

from .comparisons import measured


def test_verdicts_follow_from_intervals() -> None:
    names = [OURS, "other"]
    for gain, expected in ((0.1, "better"), (-0.1, "worse"), (0.0, "open")):
        one = measured(names, gain)
        assert verdict(difference(one.found, OURS, "other")) == expected
        shown = table({"small": one}, {"other": (OURS, "other")}, "against")
        assert ("**" in shown) == (expected != "open")


def test_the_page_says_what_was_found() -> None:
    model = TRAINED["small"].build().eval()
    tried, all_methods = list(variants(model)), list(methods(model))
    assert set(RIVALS) <= set(all_methods)
    validation = {name: measured(tried, 0.1) for name in BACKBONES}
    test = {name: measured(all_methods, 0.1 if name == "small" else -0.1) for name in BACKBONES}
    text = page(validation, test)
    assert "- against LeGrad: better on small; worse on bundled, pooled." in text
    assert "better on every backbone than: none of them." in text
    assert "less than 85 % of these test images: none." in text
    assert "- one step: worse on bundled, small, pooled." in text


def test_better_means_on_every_backbone() -> None:
    names = [OURS, "LeGrad", "Rollout"]
    one, two = measured(names, 0.1), measured(names, 0.1, level="Rollout")
    said = answer({"small": one, "pooled": two}, names[1:])
    assert said == "So it is better on every backbone than: LeGrad. Not so than: Rollout."
