"""What the addresses of a server answer, and what they refuse."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.errors import InputError
from tests.deploy.serve.toys import CLASSES, Spotter, bomb, sent

pytest.importorskip("httpx")
from fastapi.testclient import TestClient


def client(models: Any = None, **settings: Any) -> TestClient:
    app = sl.server_app({"spotter": Spotter()} if models is None else models, **settings)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def plain() -> Iterator[TestClient]:
    with client() as made:
        yield made


def refused(answer: Any, status: int, words: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert list(answer.json()) == ["error"]
    sentence = answer.json()["error"]
    assert words in sentence
    assert "\n" not in sentence
    assert "Traceback" not in sentence


def test_predict_has_the_form_of_the_files_of_predict(plain, tmp_path):
    image = sent(7)
    (tmp_path / "photo.png").write_bytes(image)
    sl.predict_to_folder(Spotter(), tmp_path / "photo.png", tmp_path / "out")
    wanted = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    answer = plain.post("/predict", files={"image": ("photo.png", image)})
    assert answer.status_code == 200
    assert answer.json() == {"model": "spotter", "task": "detection", "threshold": 0.5, "prediction": wanted}
    assert answer.json()["prediction"]["annotations"][0]["bbox"] == [7, 0, 33, 30]
    raw = plain.post("/predict?threshold=0.2&files=true", content=image).json()
    assert [one["score"] for one in raw["prediction"]["annotations"]] == [0.9, 0.3]
    assert (raw["threshold"], raw["files"]) == (0.2, {})
    assert raw["prediction"]["images"] == [{"id": 1, "file_name": "upload", "width": 40, "height": 30}]


def test_a_misspelt_parameter_is_refused(plain):
    refused(plain.post("/predict?treshold=0.3", content=sent()), 422, "there is no parameter 'treshold'; did you mean")
    refused(plain.post("/draw?colour=red", content=sent()), 422, "there are model, threshold")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_formats_are_recognised_by_their_bytes(plain, kind):
    answer = plain.post("/predict", content=sent(kind=kind), headers={"content-type": "text/plain"})
    assert answer.json()["prediction"]["annotations"][0]["category"] == "right"


def test_an_upright_image_has_the_size_that_is_shown(plain):
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(out, "JPEG", exif=exif)
    (image,) = plain.post("/predict", content=out.getvalue()).json()["prediction"]["images"]
    assert (image["width"], image["height"]) == (30, 40)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_a_jpeg_is_decoded_as_from_a_file(mode, turn, tmp_path):
    from sightline.data.images import read_image
    from sightline.deploy.serve.received import Upload, opened

    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turn
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(out, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(out.getvalue())
    image = opened(Upload(out.getvalue()), 108)
    assert image.jpeg is not None
    assert torch.equal(image.read(Spotter()), read_image(tmp_path / "a.jpg"))


def test_names_of_files_do_not_reach_the_disk(plain):
    for name in ("../../../tmp/evil.png", "/etc/passwd", "..", "a\\b\\evil.png", "x" * 400, "é\t.png"):
        answer = plain.post("/predict", files={"image": (name, sent())})
        assert answer.status_code == 200
        shown = answer.json()["prediction"]["images"][0]["file_name"]
        assert "/" not in shown
        assert "\\" not in shown
        assert len(shown) <= 200


def test_bad_bodies_are_refused_in_a_sentence(plain):
    refused(plain.post("/predict"), 400, "the request has no body")
    refused(plain.post("/predict", content=b"hello"), 415, "not an image of a known format")
    refused(plain.post("/predict", content=b'{"url": "http://127.0.0.1/a.png"}'), 415, "not an image")
    refused(plain.post("/predict", content=b"%!PS-Adobe-3.0 EPSF-3.0\n" * 20), 415, "not an image")
    refused(plain.post("/predict", content=sent(width=400)[:-60]), 422, "cannot read the image upload")
    refused(plain.post("/predict", files={"image": ("a.jpg", b"\xff\xd8\xff\xe0")}), 422, "cannot read the image a.jpg")
    refused(plain.post("/predict", files={"image": ("a.png", b"")}), 400, "is empty")
    refused(plain.post("/predict", files={"a": sent(), "b": sent()}), 400, "the form has 2 files")
    form = {"content-type": "multipart/form-data; boundary=x"}
    refused(plain.post("/predict", content=b"no form", headers=form), 400, "the form cannot be read")
    refused(plain.post("/predict", content=sent(), headers={"content-type": "multipart/form-data"}), 400, "boundary")
    text = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nhttp://127.0.0.1/\r\n--x--\r\n'
    refused(plain.post("/predict", content=text, headers=form), 400, "the form has no file")
    for charset in ("zip", "no-such", "idna"):
        headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
        refused(plain.post("/predict", content=text, headers=headers), 400, "form")


def test_refused_files_are_to_be_sent_again_not_removed(plain):
    whole = {kind: sent(width=400, height=300, kind=kind) for kind in ("PNG", "JPEG", "TIFF", "GIF")}
    damaged = [data[: len(data) // 2] for data in whole.values()] + [b"GIF89a" + bytes(9), b"\0\0\0\x18ftypisom"]
    for data in damaged:
        answer = plain.post("/predict", content=data)
        refused(answer, 422, "; send another file")
        assert "remove" not in answer.text


def test_text_fields_of_forms_are_refused_because_they_are_not_read(plain):
    answer = plain.post("/predict", files={"image": sent()}, data={"threshold": "0.9"})
    refused(answer, 400, "the form has the text field 'threshold', which is not read; give parameters in the address")


def test_wrong_channels_and_arrays_are_refused(plain):
    def array(values: Any) -> bytes:
        out = io.BytesIO()
        np.save(out, values)
        return out.getvalue()

    refused(plain.post("/predict", content=array(np.zeros((9, 9, 7), np.uint8))), 422, "has 7 channels")
    refused(plain.post("/predict", content=array(np.array([{}, []], dtype=object))), 422, "upload")
    assert plain.post("/predict", content=array(np.zeros((9, 8, 3), np.uint8))).status_code == 200


def test_bombs_are_refused_by_their_header(plain):
    refused(plain.post("/predict", content=bomb()), 413, "upload has 20000×20000 pixels, but this server takes at most")
    with client(max_pixels=1199) as small:
        refused(small.post("/predict", content=sent()), 413, "40×30")
        assert small.post("/predict", content=sent(width=39)).status_code == 200


def test_bodies_have_a_limit_stated_or_not(plain):
    with client(max_body_mb=0.01) as small:
        assert small.post("/predict", content=sent()).status_code == 200
        large = b"\x89PNG" + bytes(20_000)
        refused(small.post("/predict", content=large), 413, "the body is larger than 0.01 MB")
        parts = (large[i : i + 1000] for i in range(0, len(large), 1000))
        refused(small.post("/predict", content=parts), 413, "the body is larger than 0.01 MB")  # of unknown length
        refused(small.post("/predict", files={"image": large}), 413, "the body is larger than 0.01 MB")


def test_wrong_parameters_are_refused(plain):
    refused(plain.post("/predict?threshold=2", content=sent()), 422, "the parameter threshold is wrong")
    refused(plain.post("/predict?threshold=nan", content=sent()), 422, "the parameter threshold is wrong")
    refused(plain.post("/predict?threshold=0&threshold=1", content=sent()), 422, "threshold is given 2 times")
    refused(plain.post("/predict?model=spoter", content=sent()), 404, "did you mean 'spotter'?")
    refused(plain.get("/predict"), 405, "does not take GET")
    refused(plain.get("/nowhere"), 404, "there is nothing at '/nowhere'")
    refused(plain.post("/models/none/reload"), 404, "there is no model 'none'")
    refused(plain.post("/models/spotter/reload"), 409, "was not loaded from a file")


def test_a_model_that_fails_gives_a_sentence(plain):
    refused(plain.post("/predict", content=sent(13)), 500, "unexpected RuntimeError: unlucky")
    assert plain.post("/predict", content=sent()).status_code == 200


def until_it_holds(server: Any, images: int) -> None:
    """Wait until the queues of a server hold this number of images, for at most a minute."""
    end = time.monotonic() + 60
    while sum(one["queue"] for one in server.get("/models").json()) != images:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_queue_gets_503_and_those_who_wait_get_their_answers():
    model = Spotter()
    model.open.clear()
    with client({"a": model}, max_queue=2, timeout=60) as small, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(small.post, "/predict", content=sent()) for _ in range(2)]
        until_it_holds(small, 2)
        full = small.post("/predict", content=sent())
        refused(full, 503, "the queue is full (2 images wait)")
        assert full.headers["retry-after"] == "1"
        model.open.set()
        assert [future.result().status_code for future in waiting] == [200, 200]


def test_a_late_answer_gets_503_and_its_place_is_given_back():
    model = Spotter()
    model.open.clear()
    with client({"a": model}, max_queue=1, timeout=2) as small:
        refused(small.post("/predict", content=sent()), 503, "there was no answer within 2 seconds")
        model.open.set()
        until_it_holds(small, 0)
        assert small.post("/predict", content=sent()).status_code == 200


def test_too_many_bodies_at_once_get_503(monkeypatch):
    from sightline.deploy.serve.settings import ServerSettings

    monkeypatch.setattr(ServerSettings, "max_reading", property(lambda _: 0))
    with client() as small:
        refused(small.post("/predict", content=sent()), 503, "0 requests are being read")
    monkeypatch.undo()
    monkeypatch.setattr(ServerSettings, "held_bytes", property(lambda _: 10))
    with client() as small:
        refused(small.post("/predict", content=sent()), 503, "too many large bodies")
        monkeypatch.undo()
        assert small.post("/predict", content=sent()).status_code == 200  # and they are given back


def test_the_key_is_asked_for():
    with client(api_key="secret") as closed:
        for answer in (
            closed.post("/predict", content=sent()),
            closed.post("/explain", content=sent(), headers={"X-API-Key": "secreT"}),
            closed.post("/draw", content=sent(), headers={"X-API-Key": "sécret".encode("latin-1")}),
            closed.get("/models"),
            closed.get("/metrics"),
            closed.post("/models/spotter/reload"),
        ):
            refused(answer, 401, "the API key is missing or wrong")
        key = {"X-API-Key": "secret"}
        assert closed.post("/predict", content=sent(), headers=key).status_code == 200
        assert closed.get("/metrics", headers=key).status_code == 200
        assert closed.get("/health").json() == {"status": "ok"}
        assert closed.get("/").status_code == 200
        assert closed.get("/openapi.json").json()["paths"]["/predict"]["post"]["security"] == [{"APIKeyHeader": []}]


def test_many_clients_get_what_one_would():
    model = Spotter()
    with client({"a": model}) as many, ThreadPoolExecutor(12) as pool:
        images = [sent(first, width=20 + first, height=10 + first) for first in range(14, 38)]
        answers = list(pool.map(lambda image: many.post("/predict?threshold=0", content=image).json(), images))
        singly = [many.post("/predict?threshold=0", content=image).json() for image in images]
    assert answers == singly
    assert sum(model.batches) == 48


def test_batched_equals_single_with_a_real_model():
    torch.manual_seed(0)
    model = sl.create_model("ssdlite320_mobilenet_v2", ["a", "b"], image_size=96).eval()
    random = np.random.default_rng(0)

    def photo(height: int, width: int) -> bytes:
        out = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(out, "PNG")
        return out.getvalue()

    images = [photo(60 + 5 * k, 90 - 6 * k) for k in range(5)]
    gate, entered, forward = threading.Event(), threading.Event(), model.forward
    with client({"a": model}, max_batch=5) as many, ThreadPoolExecutor(5) as pool:
        singly = [many.post("/predict?threshold=0.3", content=image).json()["prediction"] for image in images]
        sizes: list[int] = []

        def held(batch: Any, targets: Any = None) -> Any:
            entered.set()
            assert gate.wait(20)
            sizes.append(len(batch))
            return forward(batch, targets)

        model.forward = held
        first = pool.submit(many.post, "/predict?threshold=0.3", content=images[0])
        assert entered.wait(20)
        rest = [pool.submit(many.post, "/predict?threshold=0.3", content=image) for image in images[1:]]
        while many.get("/models").json()[0]["queue"] < 5:
            time.sleep(0.01)
        gate.set()
        together = [future.result().json()["prediction"] for future in (first, *rest)]
    assert sizes == [1, 4]
    for one, other in zip(singly, together, strict=True):
        assert [a["category"] for a in one["annotations"]] == [b["category"] for b in other["annotations"]]
        boxes, others = ([a["bbox"] + [a["score"]] for a in each["annotations"]] for each in (one, other))
        np.testing.assert_allclose(boxes, others, atol=2e-3)
        assert len(boxes) > 3


def test_a_model_is_loaded_again_under_requests(tmp_path):
    """Requests before, during and after give the answer of the old or of the new model, and none is lost."""
    file = tmp_path / "model.safetensors"

    def saved(names: list[str]) -> None:
        torch.manual_seed(0)
        file.unlink(missing_ok=True)
        sl.save(sl.create_model("mobilenet_v2", names, image_size=32), file)

    saved(["old", "other"])
    with client([file], device="cpu") as many, ThreadPoolExecutor(4) as pool:
        stop = threading.Event()

        def ask() -> list[str]:
            seen = []
            while not stop.is_set():
                answer = many.post("/predict", content=sent())
                assert answer.status_code == 200, answer.text
                seen.append(answer.json()["prediction"]["categories"][0]["name"])
            return seen

        asking = [pool.submit(ask) for _ in range(3)]
        saved(["new", "other"])
        answer = many.post("/models/model/reload")
        assert (answer.status_code, answer.json()["classes"], answer.json()["reloads"]) == (200, ["new", "other"], 1)
        assert many.post("/predict", content=sent()).json()["prediction"]["categories"][0]["name"] == "new"
        stop.set()
        for future in asking:
            seen = future.result()
            assert seen == sorted(seen, reverse=True)  # "old" first, then "new"
        file.write_bytes(b"damaged")
        refused(many.post("/models/model/reload"), 409, "the model model stays as it is")
        assert many.post("/predict", content=sent()).json()["prediction"]["categories"][0]["name"] == "new"
        text = many.get("/metrics").text
        assert 'sightline_reloads_total{model="model",outcome="done"} 1' in text
        assert 'sightline_reloads_total{model="model",outcome="failed"} 1' in text


def test_a_model_that_does_not_fit_into_memory_beside_the_old_one_is_not_loaded(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    sl.save(sl.create_model("mobilenet_v2", ["a", "b"], image_size=32), file)
    with client([file], device="cpu") as served:

        def full(*_: object, **__: object) -> None:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

        monkeypatch.setattr("sightline.verbs.serve.load", full)
        refused(served.post("/models/model/reload"), 409, "stays as it is, because loading it again failed: RuntimeErr")
        assert served.post("/predict", content=sent()).status_code == 200


def test_explain_and_draw_give_pictures():
    torch.manual_seed(0)
    model = sl.create_model("mobilenet_v2", ["cat", "dog"], image_size=64)
    with client({"net": model}) as able:
        for path in ("/explain", "/explain?target=dog&method=grad_cam_pp", "/draw"):
            answer = able.post(path, content=sent(width=64, height=48))
            assert answer.headers["content-type"] == "image/png", answer.text
            assert Image.open(io.BytesIO(answer.content)).width == 64
        refused(able.post("/explain?target=bird", content=sent()), 404, "bird")
        for slow in ("lime", "d_rise"):
            refused(able.post(f"/explain?method={slow}", content=sent()), 404, "must be one of cam, grad_cam")
        refused(able.post("/explain?layer=nowhere", content=sent()), 404, "no layer 'nowhere'")
        refused(able.post("/explain?model=nowhere", content=sent()), 404, "there is no model 'nowhere'")
        best = able.post("/predict", content=sent()).json()["prediction"]["images"][0]["predictions"]
        assert sorted(one["category"] for one in best) == ["cat", "dog"]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_model_without_explanations_says_so(plain):
    refused(plain.post("/explain", content=sent()), 404, "predicts no boxes")


def test_class_maps_come_with_their_files():
    torch.manual_seed(0)
    model = sl.create_model("lraspp_mobilenet_v3_large", ["a", "b", "c"], image_size=64)
    with client({"net": model}) as able:
        answer = able.post("/predict?files=true", content=sent(width=64, height=48)).json()
    mask = Image.open(io.BytesIO(base64.b64decode(answer["files"]["masks/image.png"])))
    areas = {one["category_id"] - 1: one["area"] for one in answer["prediction"]["annotations"]}
    ids, counts = np.unique(np.asarray(mask), return_counts=True)
    assert areas == dict(zip(ids.tolist(), counts.tolist(), strict=True))
    assert sum(areas.values()) == 64 * 48


def test_metrics_count_requests_and_batches(plain):
    for _ in range(3):
        plain.post("/predict", content=sent())
    plain.post("/predict", content=b"no")
    plain.get("/x/y")
    lines = plain.get("/metrics").text.splitlines()
    for line in (
        'sightline_requests_total{path="/predict",status="200"} 3',
        'sightline_requests_total{path="/predict",status="415"} 1',
        'sightline_requests_total{path="other",status="404"} 1',
        'sightline_images_total{model="spotter"} 3',
        'sightline_batch_size_bucket{model="spotter",le="1"} 3',
        'sightline_batch_size_count{model="spotter"} 3',
        'sightline_queue_images{model="spotter"} 0',
        "# TYPE sightline_request_seconds histogram",
    ):
        assert line in lines, line
    assert not any(line.startswith("sightline_requests_total") and "x/y" in line for line in lines)


def test_models_are_named_by_their_files(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    sl.save(sl.create_model("mobilenet_v2", ["a", "b"], image_size=32), tmp_path / "one" / "net.safetensors")
    sl.save(sl.create_model("mobilenet_v2", ["a", "b"], image_size=32), tmp_path / "two" / "net.safetensors")
    files = [tmp_path / "one" / "net.safetensors", tmp_path / "two" / "net.safetensors"]
    with pytest.raises(InputError, match="two models are named 'net'"):
        sl.server_app(files)
    with client({"b": files[1], "a": files[0]}, device="cpu") as two:
        assert [one["name"] for one in two.get("/models").json()] == ["b", "a"]
        assert two.post("/predict?model=a", content=sent()).json()["model"] == "a"
        assert two.post("/predict", content=sent()).json()["model"] == "b"


@pytest.mark.parametrize(
    ("models", "settings", "words"),
    [
        ([], {}, "there are no models to serve"),
        ({"a/b": Spotter()}, {}, "'a/b' cannot be the name"),
        ({"a": 3}, {}, "the model a is a int"),
        ("missing.safetensors", {}, "missing.safetensors"),
        ({"a": Spotter()}, {"max_batch": 0}, "max_batch is 0"),
        ({"a": Spotter()}, {"timeout": -1}, "timeout is -1"),
        ({"a": Spotter()}, {"api_key": ""}, "the API key is empty"),
        ({"a": Spotter()}, {"api_key": "a\nb"}, "the API key must be printable"),
        ({"a": Spotter()}, {"device": "tpu"}, "device is 'tpu'"),
        ("missing.safetensors", {"device": "tpu"}, "device is 'tpu'"),
        (Spotter(), {"runtime": "openvino"}, "runtime 'openvino' runs exported files .* none among the models"),
        ("missing.safetensors", {"runtime": "no"}, "runtime 'no' runs exported files .* none among the models"),
    ],
)
def test_wrong_arguments_are_refused(models, settings, words):
    with pytest.raises(InputError, match=words):
        sl.server_app(models, **settings)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("sightline.runtime.optional.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"serving models needs fastapi.*pip install 'sightline\[serve\]'"):
        sl.server_app(Spotter())


def test_a_model_of_an_unknown_task_is_refused():
    model = Spotter()
    model.task = "guessing"
    with pytest.raises(InputError, match="unknown task 'guessing'"):
        sl.server_app(model)
    assert model.classes is CLASSES


def test_only_methods_that_explain_the_model_are_listed():
    from sightline.verbs.serve import quick_methods

    always = ("grad_cam", "grad_cam_pp", "layer_cam")
    for name, expected in (("mobilenet_v2", ("cam", *always)), ("mobilenet_v3_small", always), ("sightline_n", always)):
        assert quick_methods(sl.create_model(name, ["cat", "dog"], image_size=64)) == expected
