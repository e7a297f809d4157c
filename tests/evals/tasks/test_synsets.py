from attnchain_evals.tasks.synsets import synset_classes, synset_names


def test_classes_of_imagenet() -> None:
    classes = synset_classes()
    assert (len(classes), classes["n01440764"], classes["n15075141"]) == (1000, 0, 999)
    assert synset_names()["n01440764"] == "tench, Tinca tinca"
    assert len(synset_names()) > 21_000
