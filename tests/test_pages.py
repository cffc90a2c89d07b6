"""The pages in a browser, used as a person would (`pytest -m slow`, where there is a Chromium)."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.labelling.label_file import Shape
from sightline.labelling.server import LabellingServer
from sightline.report.latent_page import latent_page
from tests.browser import Page
from tests.report.test_html import ROWS, evaluated, write_report
from tests.report.test_inside import space

pytestmark = pytest.mark.slow


# --- the page of a server

DROP = """(() => {
  const bytes = Uint8Array.from(atob("%s"), one => one.charCodeAt(0)), data = new DataTransfer();
  data.items.add(new File([bytes], "%s"));
  document.%s.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
})()"""
ANSWERED = "!document.getElementById('status').textContent.endsWith('…')"


def drop(page: Page, data: bytes, name: str, place: str = "body") -> None:
    page.run(DROP % (base64.b64encode(data).decode(), name, place))
    page.wait(ANSWERED)


def slide(page: Page, value: float) -> None:
    page.run(
        f"(e => {{ e.value = {value}; e.dispatchEvent(new Event('input')); }})(document.querySelector('#threshold'))"
    )


@pytest.fixture
def server() -> Callable[..., str]:
    pytest.importorskip("uvicorn")
    from sightline.deploy.serve.running import listening, run
    from sightline.deploy.serve.settings import ServerSettings

    def start(models: Any, key: str | None = None) -> str:
        listener = listening("127.0.0.1", 0)
        app = sl.server_app(models, api_key=key)
        threading.Thread(target=run, args=(app, ServerSettings(key), listener), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    return start


def test_an_image_is_dropped_on_the_page_of_a_server(server):
    from tests.deploy.serve.toys import Spotter, sent

    classifier = sl.create_model("squeezenet1_1", classes=["cat", "dog"])
    url = server({"spotter": Spotter(), "classifier": classifier})
    with Page() as page:
        page.open(url)
        page.wait("document.querySelectorAll('#model option').length === 2")
        assert page.run("document.getElementById('result').hidden")
        drop(page, sent(5, 400, 300), "a.png")  # beside the zone
        assert page.text("#status").startswith("a.png: ")
        assert page.run("document.getElementById('file').files[0].name") == "a.png"
        slide(page, 0.1)
        assert page.texts("#list tr") == ["right0.900why?", "left0.300why?"]
        slide(page, 0.5)
        assert page.texts("#list tr") == ["right0.900why?"]
        colour = page.run("[...document.getElementById('canvas').getContext('2d').getImageData(10, 300, 1, 1).data]")
        assert colour != [5, 5, 5, 255]  # the left edge of the box, on an image of one colour
        assert page.run("[...document.getElementById('canvas').getContext('2d').getImageData(4, 300, 1, 1).data]") == [
            *(5, 5, 5, 255)
        ]
        slide(page, 0.95)
        assert page.texts("#list tr") == ["nothing of this score; move the slider to the left"]
        page.run(
            "(e => { e.value = 'classifier'; e.dispatchEvent(new Event('change')); })(document.querySelector('#model'))"
        )
        page.wait("document.querySelectorAll('#list tr').length === 2 && " + ANSWERED)
        assert sorted(one[:3] for one in page.texts("#list tr")) == ["cat", "dog"]
        page.click("#list tr:nth-child(2) button")
        page.wait("!document.getElementById('picture').hidden")
        assert page.run("document.getElementById('picture').naturalWidth") >= 400
        page.click("#draw")
        page.wait(ANSWERED)
        assert page.errors == []
        drop(page, b"hello", "b.txt", "querySelector('#zone')")
        assert "not an image of a known format" in page.text("#status")
        assert page.run("document.getElementById('result').hidden")
        assert len(page.errors) == 1
        assert "415" in page.errors[0]


def test_the_page_of_a_server_asks_for_a_key_and_fits_a_telephone(server):
    from tests.deploy.serve.toys import Spotter, sent

    with Page(390, 800, dark=True) as page:
        page.open(server(Spotter(), "secret"))
        page.wait("!document.getElementById('keyed').hidden")
        page.click("#key")
        page.type("secret")
        page.key("Enter")
        page.wait("document.querySelectorAll('#model option').length === 1")
        drop(page, sent(5, 400, 300), "a.png")
        assert page.texts("#list tr") == ["right0.900why?"]
        assert page.is_as_wide_as_its_window()
        assert ["401" in error for error in page.errors] == [True]


# --- the labelling page


@pytest.fixture
def labelling(tmp_path: Path) -> Iterator[LabellingServer]:
    from sightline.verbs.annotate import labelling_server

    for name in ("a.png", "b.jpg", "c.tif"):
        Image.fromarray(np.full((200, 300, 3), 90, np.uint8)).save(tmp_path / name)
    own = labelling_server(tmp_path, classes=["cat"])
    own.suggest = lambda _: [Shape("cat", (250.0, 150.0, 290.0, 190.0))]
    thread = threading.Thread(target=own.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield own
    own.shutdown()
    own.server_close()
    thread.join()


def test_images_are_labelled_with_mouse_and_keyboard(labelling: LabellingServer, tmp_path: Path) -> None:
    def written() -> dict[str, Any]:
        return json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8"))

    with Page() as page:
        page.open(labelling.url)
        page.wait("document.getElementById('status').textContent === 'not labelled yet'")
        wide, high = page.run("(r => [r.width, r.height])(document.getElementById('canvas').getBoundingClientRect())")
        scale = 0.97 * min(wide / 300, high / 200)

        def at(x: float, y: float) -> tuple[float, float]:
            left, top = page.place("#canvas", 0, 0)
            return left + (wide - 300 * scale) / 2 + x * scale, top + (high - 200 * scale) / 2 + y * scale

        page.drag(at(30, 40), at(60, 60), at(90, 100))
        page.wait("document.getElementById('status').textContent === '1 object, written'")
        page.click("#added")
        page.type("dog")
        page.key("Enter")
        page.wait("document.querySelectorAll('#classes li').length === 2")
        page.key("o")
        for point in ((150, 50), (200, 50), (200, 120), (150, 50)):
            page.drag(at(*point))
        page.wait("document.getElementById('status').textContent === '2 objects, written'")
        page.key("s")
        page.wait("document.getElementById('status').textContent === '3 objects, written'")
        annotations = written()["annotations"]
        assert [one["category_id"] for one in annotations] == [1, 2, 1]
        assert annotations[0]["bbox"] == pytest.approx([30, 40, 60, 60], abs=1)
        assert annotations[1]["segmentation"][0] == pytest.approx([150, 50, 200, 50, 200, 120], abs=1)
        assert annotations[2]["bbox"] == pytest.approx([250, 150, 40, 40], abs=0.01)
        page.run("document.querySelector('#objects li:nth-child(3)').focus()")
        page.key("Enter")
        page.key("Delete")
        page.wait("document.getElementById('status').textContent === '2 objects, written'")
        page.key("z", control=True)
        page.wait("document.getElementById('status').textContent === '3 objects, written'")
        page.key("ArrowRight")
        page.wait("document.querySelector('#images .chosen').textContent === 'b.jpg' && "
                  "document.getElementById('status').textContent === 'not labelled yet'")  # fmt: skip
        page.key("n")
        page.wait("document.querySelector('#images .chosen').textContent === 'c.tif' && "
                  "document.getElementById('status').textContent === 'not labelled yet'")  # fmt: skip
        assert [one["file_name"] for one in written()["images"]] == ["a.png", "b.jpg"]
        assert len(written()["annotations"]) == 3
        assert page.errors == []


# --- reports


@pytest.mark.parametrize("width", [390, 1200])
def test_a_report_fits_its_window(width, tmp_path):
    result, data = evaluated()
    path = write_report(tmp_path / ("a" * 60), result, data, metrics=ROWS)
    with Page(width, dark=width < 600) as page:
        page.open(path.as_uri())
        assert page.is_as_wide_as_its_window()
        page.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert page.is_as_wide_as_its_window()
        page.run("Promise.all([...document.images].map(one => { one.loading = 'eager'; return one.decode(); }))")
        assert page.errors == []


def test_a_latent_space_is_hovered_zoomed_and_filtered(tmp_path):
    images = [torch.full((3, 8, 8), 10 * i, dtype=torch.uint8) for i in range(3)]
    data = sl.Dataset.from_labels(images, [0, 1, 0], ["cat", "dog"])
    found = space(np.array([[0.0, 0.0], [5, 5], [10, 10]]), ["first.png", "middle.png", "last.png"], data.classes)
    (tmp_path / "page.html").write_text(latent_page(found, data), encoding="utf-8")
    with Page() as page:
        page.open((tmp_path / "page.html").as_uri())
        page.mouse("mouseMoved", *page.place("#latent-canvas"))
        assert page.texts("#latent-tip > :not(canvas)") == ["dog", "middle.png"]
        assert not page.run("document.getElementById('latent-tip').hidden")
        corner = page.place("#latent-canvas", 0.5, 0.9)
        page.mouse("mouseMoved", *corner)
        assert page.run("document.getElementById('latent-tip').hidden")
        page.click("#latent-classes label:nth-child(2) input")
        page.mouse("mouseMoved", *page.place("#latent-canvas"))
        assert page.run("document.getElementById('latent-tip').hidden")  # the dog is filtered
        page.click("#latent-all")
        x, y = page.place("#latent-canvas")
        page.drag((x, y), (x + 30, y))  # the point under the pointer goes with it
        page.mouse("mouseMoved", x + 30, y)
        assert page.text("#latent-tip span") == "middle.png"
        page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)
        page.mouse("mouseMoved", x, y)
        page.wait("document.getElementById('latent-tip').hidden")  # the point has moved away
        page.click("#latent-reset")
        page.mouse("mouseMoved", *page.place("#latent-canvas"))
        assert page.text("#latent-tip span") == "middle.png"
        assert page.errors == []
