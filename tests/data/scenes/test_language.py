"""Captions and relations against projected centres, depths and sizes."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.data.scenes import RELATIONS, render

_OPPOSITE = {
    "left of": "right of",
    "in front of": "behind",
    "on": "under",
    "larger than": "smaller than",
    "near": "near",
}
_OPPOSITE |= {b: a for a, b in _OPPOSITE.items()}


@pytest.mark.parametrize("seed", range(10, 30))
def test_relations_hold_and_none_is_missing(seed: int) -> None:
    scene = render(seed)
    found = {(r.subject, r.predicate, r.object) for r in scene.relations}
    assert len(found) == len(scene.relations)
    assert {predicate for _, predicate, _ in found} <= set(RELATIONS)
    assert all((o, _OPPOSITE[p], s) in found for s, p, o in found)
    centres = scene.cuboids[:, :3].astype(np.float64)
    projected = centres @ scene.camera.matrix.T
    across = projected[:, 0] / projected[:, 2]
    for i, a in enumerate(scene.objects):
        for j, b in enumerate(scene.objects):
            if i == j:
                continue
            stacked = ((i, "on", j) in found) or ((i, "under", j) in found)
            assert ((i, "left of", j) in found) == (across[i] < across[j] - 0.06 * 160 and not stacked)
            assert ((i, "in front of", j) in found) == (centres[i, 2] < centres[j, 2] - 0.35 and not stacked)
            longest = [max(o.cuboid[3:6]) for o in (a, b)]
            if a.class_name != "cone" and b.class_name != "cone":
                assert ((i, "larger than", j) in found) == (longest[0] > 1.25 * longest[1])
            gap = np.linalg.norm(centres[i] - centres[j]) - a.body.shape.bound - b.body.shape.bound
            assert ((i, "near", j) in found) == (gap < 0.3 and not stacked)
            if (i, "on", j) in found:
                low = a.mesh("world")[0][:, 2].min()
                assert low == pytest.approx(b.mesh("world")[0][:, 2].max(), abs=0.02)


@pytest.mark.parametrize("seed", range(10, 30))
def test_captions_say_what_is_true(seed: int) -> None:
    scene = render(seed)
    phrases = [item.phrase for item in scene.objects]
    assert len(set(phrases)) == len(phrases)
    assert any(phrase in scene.caption for phrase in phrases)
    assert scene.caption.endswith("wall.")
    found = {(phrases[r.subject], r.predicate, phrases[r.object]) for r in scene.relations}
    for item in scene.objects:
        assert item.phrase == f"{item.size} {item.colour} {item.material} {item.class_name}"
        assert item.caption.startswith(f"a {item.phrase} ")
        rest = item.caption.removeprefix(f"a {item.phrase} ")
        if rest == "on the floor":
            continue
        predicate, other = rest.split(" a ", 1)
        assert other in phrases
        if predicate != "near":  # a caption calls two objects near that differ neither sideways nor in depth
            assert (item.phrase, predicate, other) in found


def test_a_lonely_object() -> None:
    scene = render(3, objects=(1, 1))
    assert scene.objects[0].caption == f"a {scene.objects[0].phrase} on the floor"
    assert scene.relations == ()
    assert "other object" not in scene.caption
