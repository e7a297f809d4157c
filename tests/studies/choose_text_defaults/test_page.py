import numpy as np

from studies.choose_text_defaults.candidates import Candidate
from studies.choose_text_defaults.choice import FIGURES
from studies.choose_text_defaults.page import PAGE, page, summary, test_table, validation_table

test_table.__test__ = False  # type: ignore[attr-defined] - pytest collects names of this kind


def made(**means: float) -> tuple[list[Candidate], list[np.ndarray]]:
    names = {"Rollout": "attention", "RandomRanking": "attention", "LeGrad": "gradients", "the evidence itself": "control"}
    several = [Candidate(name, "", family, lambda seen: seen.target) for name, family in names.items()]
    return several, [np.full((4, len(FIGURES)), means[name.split()[0]]) for name in names]


def test_tables_and_sentences_follow_the_figures() -> None:
    candidates, figures = made(Rollout=0.2, RandomRanking=0.3, LeGrad=0.6, the=0.9)
    order = [line.split("|")[1].strip() for line in test_table(candidates, figures).splitlines()[2:]]
    assert order == ["the evidence itself", "LeGrad", "RandomRanking", "Rollout"]
    assert len(validation_table(candidates, figures, {"Rollout": 0, "LeGrad": 2}).splitlines()) == 2 + 2
    said = summary("Decoder", candidates, figures)
    assert "LeGrad (0.600) is the most faithful of the methods that also read gradients." in said
    assert "These are not better than a random order by the mean (0.300): Rollout." in said


def test_the_page_names_its_command() -> None:
    text = page(8, 16, 0, [("said", ["## part"])])
    assert "--validation 8 --test 16" in text
    assert text.endswith("## part\n")
    assert "{" not in PAGE.format(validation=1, test=1, seed=0, margin=0.01, summary="", parts="")
