"""What is named instead of a class that does not exist."""

from __future__ import annotations

from importlib import resources

import pytest

import sightline as sl
from sightline.structures import Classes

NONE = "no class has a similar name; the classes are "


@pytest.fixture(scope="module")
def imagenet() -> Classes:
    return Classes((resources.files(sl) / "models" / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("bycicle", "did you mean 'bicycle-built-for-two'?"),
        ("taby", "did you mean 'tabby'?"),
        ("TABBY", "did you mean 'tabby'?"),
        ("sportscar", "did you mean 'sports car'?"),
        ("bears", "classes with a similar name are 'brown bear', 'American black bear', 'ice bear', 'sloth bear'"),
        ("buckel", "classes with a similar name are 'bucket', 'buckle'"),
        ("person", f"{NONE}tench, goldfish"),
        ("at", NONE),
    ],
)
def test_similar_names_of_imagenet(imagenet: Classes, name: str, hint: str) -> None:
    with pytest.raises(sl.InputError) as caught:
        imagenet.id(name)
    assert str(caught.value).startswith(f"unknown class {name!r}; {hint}")


def test_a_word_of_several_names(imagenet: Classes) -> None:
    with pytest.raises(sl.InputError, match=r"'Maltese dog', .*'Old English sheepdog', .* and 1 more$"):
        imagenet.id("dog")


def test_few_classes() -> None:
    classes = Classes(["dogs", "red"])
    assert [classes.id(name) for name in classes] == [0, 1]
    for name, hint in (("dog", "did you mean 'dogs'"), ("rde", "did you mean 'red'"), ("blue", f"{NONE}dogs, red")):
        with pytest.raises(sl.InputError, match=hint):
            classes.id(name)
    with pytest.raises(sl.InputError, match="unknown class 'a'"):
        Classes([]).id("a")
