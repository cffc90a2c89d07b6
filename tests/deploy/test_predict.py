"""Prediction from every kind of source, in order, in batches, with unreadable files left out; and to a folder."""

from __future__ import annotations

import json
import logging
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline.api import predict_to_folder
from sightline.deploy.predict import predict, predict_each
from sightline.deploy.sources import find_images, image_tensor
from sightline.errors import InputError
from sightline.structures import Classes, ClassScores, Instances

CLASSES = Classes(["left", "right"])


class Spotter(nn.Module):
    """Answers with two boxes of scores 0.9 and 0.3; the first box's x1 is the image's first pixel."""

    task = "detection"
    in_channels = 3
    classes = CLASSES

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.batches = []

    def forward(self, images, targets=None):
        assert not self.training
        self.batches.append([tuple(image.shape) for image in images])
        results = []
        for image in images:
            channels, height, width = image.shape
            assert channels == self.in_channels
            first = float(image[0, 0, 0]) / (255 if image.dtype == torch.uint8 else 1)
            boxes = torch.tensor([[first, 0.0, width, height], [0.0, 0.0, 1.5, 2.0]])
            results.append(Instances((height, width), classes=CLASSES, boxes=boxes, labels=[1, 0], scores=[0.9, 0.3]))
        return results


def picture(value: int, width=8, height=6) -> Image.Image:
    return Image.new("RGB", (width, height), (value, 0, 0))


@pytest.fixture
def folder(tmp_path):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    for number, name in enumerate(["b.png", "a.png", "more/c.bmp", "d.png"]):
        picture(51 * number, width=8 + number).save(photos / name)
    (photos / "notes.txt").write_text("no image")
    return photos


def firsts(results) -> list[float]:
    return [round(float(r.boxes[0, 0]), 3) for r in results]


def test_one_image_of_every_kind(folder):
    array = np.asarray(picture(51))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    sources = [
        folder / "a.png",
        str(folder / "a.png"),
        picture(51),
        array,
        array.astype(np.float32) / 255,
        array.astype(np.int64),
        tensor,
        tensor.float() / 255,
    ]
    for source in sources:
        result = predict(Spotter(), source)
        assert isinstance(result, Instances)
        assert firsts([result]) == [0.2]
        assert result.labels.tolist() == [1]
        assert result.classes == CLASSES
    assert predict(Spotter(), folder / "a.png").source == str(folder / "a.png")
    assert predict(Spotter(), picture(51)).source is None
    assert len(predict(Spotter(), picture(51), threshold=0.3)) == 2
    assert len(predict(Spotter(), picture(51), threshold=0.95)) == 0


def test_grey_and_alpha():
    grey = np.full((6, 8), 102, np.uint8)
    alpha = np.dstack([grey, grey, grey, grey // 2])
    for source in (
        grey,
        grey[:, :, None],
        torch.from_numpy(grey),
        alpha,
        Image.fromarray(grey),
        Image.fromarray(alpha),
    ):
        assert firsts([predict(Spotter(), source)]) == [0.4]


def test_many_keep_their_order_and_names(folder):
    model = Spotter()
    results = predict(model, folder, batch_size=3)
    names = [str(folder / name) for name in ("a.png", "b.png", "d.png", "more/c.bmp")]
    assert [r.source for r in results] == names
    assert firsts(results) == [0.2, 0.0, 0.6, 0.4]
    assert [r.image_size for r in results] == [(6, 9), (6, 8), (6, 11), (6, 10)]
    assert [len(batch) for batch in model.batches] == [3, 1]
    assert results.errors == {}
    assert firsts(predict(model, folder / "*.png")) == [0.2, 0.0, 0.6]
    assert firsts(predict(model, str(folder / "**" / "*"))) == [0.2, 0.0, 0.6, 0.4]
    mixed = predict(model, [folder / "d.png", picture(0), folder])
    assert [r.source for r in mixed] == [names[2], "image 1", *names]
    assert len(predict(model, [folder / "d.png"])) == 1  # a list stays a list
    assert len(predict(model, torch.zeros(3, 3, 4, 4))) == 3
    assert len(predict(model, (picture(k) for k in range(5)))) == 5


def test_hidden_folders_and_those_of_systems_are_left_out(folder):
    expected = [item.name for item in find_images(folder)[0]]
    for name in (".thumbnails/a.png", "@eaDir/a.png", "more/__MACOSX/c.png", "more/._c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        picture(0).save(folder / name)
    assert [item.name for item in find_images(folder)[0]] == expected
    assert len(find_images(str(folder / "**" / "*.*"))[0]) == len(expected)


def test_model_is_left_as_it_was():
    model = Spotter().train()
    model.norm.eval()
    predict(model, picture(0))
    assert model.training
    assert not model.norm.training
    with torch.enable_grad():
        for _ in predict_each(model, find_images(picture(0))[0]):
            assert torch.is_grad_enabled()


def test_unreadable_files_of_many_are_left_out(folder):
    (folder / "c.jpg").write_bytes(b"no image at all")
    with pytest.warns(UserWarning, match=r"1 of 5 images could not be read and are left out: .*c\.jpg"):
        results = predict(Spotter(), folder, batch_size=2)
    assert firsts(results) == [0.2, 0.0, 0.6, 0.4]
    assert list(results.errors) == [str(folder / "c.jpg")]
    assert "c.jpg" in results.errors[str(folder / "c.jpg")]
    with pytest.raises(InputError, match=r"c\.jpg"):
        predict(Spotter(), folder / "c.jpg")
    with pytest.raises(InputError, match="none of the 2 images can be read; the first: image 0 has values from 2"):
        predict(Spotter(), [torch.full((3, 4, 4), 2.0), torch.full((3, 4, 4), -1.0)])


def test_nothing_found(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        tmp_path / "gone.jpg": "there is no image or folder .*gone.jpg",
        empty: r"the folder .*empty and its subfolders hold no images; searched for files ending in .*\.jpg",
        f"{empty}/*.jpg": r"no image matches the pattern .*empty/\*.jpg",
        f"{folder}/*.txt": "the 1 matching files are not images",
        "https://example.org/cat.jpg": "is a web address; download",
    }
    for source, sentence in cases.items():
        with pytest.raises(InputError, match=sentence):
            predict(Spotter(), source)
    with pytest.raises(InputError, match="the list of images is empty"):
        predict(Spotter(), [])
    with pytest.raises(InputError, match="an image cannot be of type int"):
        predict(Spotter(), 5)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((8, 9, 5), np.uint8), r"has 5 channels as \[H, W, C\], but the model takes 3; .*in_channels=5"),
        (
            torch.zeros(8, 9, 3),
            r"has 8 channels as \[C, H, W\], but the model takes 3; the axes seem to be swapped: give \[C, H",
        ),
        (np.zeros((3, 8, 9)), r"has 9 channels as \[H, W, C\]"),
        (np.zeros(4), r"has the shape \[4\], but an image is \[H, W\] or \[H, W, C\]"),
        (np.zeros((0, 4)), r"has the shape \[0, 4\]"),
        (np.full((4, 4), 255.0), r"float samples from 255 to 255, but they must lie in \[0, 1\]"),
        (np.full((4, 4), np.nan), "samples that are NaN; replace them"),
        (np.full((4, 4), 70000), "must fit 8 or 16 bits"),
        (np.full((4, 4), "a"), "is of type <U1"),
    ],
)
def test_arrays_that_are_no_images(image, sentence):
    with pytest.raises(InputError, match=sentence):
        predict(Spotter(), image)


def test_colour_to_grey_by_luma():
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    expected = np.rint(colour @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    assert np.array_equal(image_tensor(colour, 1, "it")[0].numpy(), expected)


def test_wrong_numbers():
    with pytest.raises(InputError, match=r"threshold is 1.5, but it must be a score from 0 to 1"):
        predict(Spotter(), picture(0), threshold=1.5)
    with pytest.raises(InputError, match="batch_size is 0"):
        predict(Spotter(), picture(0), batch_size=0)


def test_whole_image_results_pass(folder):
    class Classifier(Spotter):
        def forward(self, images, targets=None):
            return [ClassScores((6, 8), scores=torch.tensor([0.2, 0.8]), classes=CLASSES) for _ in images]

    results = predict(Classifier(), folder)
    assert results[0].source == str(folder / "a.png")
    assert results[0].top(1)[0][0] == "right"


def test_to_folder(tmp_path, folder):
    (folder / "broken.png").write_bytes(b"")
    picture(153).save(folder / "more" / "c.png")  # would meet the picture of c.bmp

    def draw(image, result):
        assert image.shape[1:] == result.image_size
        return Image.new("RGB", result.image_size[::-1])

    out = tmp_path / "out"
    done = predict_to_folder(Spotter(), folder, out, draw=draw, threshold=0.2, batch_size=2)
    drawn = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))
    assert drawn == ["a.png", "b.png", "d.png", "more/c.bmp.png", "more/c.png"]
    with Image.open(out / "d.png") as drawing:
        assert drawing.size == (11, 6)
    content = json.loads((out / "predictions.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "left"}, {"id": 2, "name": "right"}]
    assert content["images"][0] == {"id": 1, "file_name": "a.png", "width": 9, "height": 6}
    assert [i["file_name"] for i in content["images"]] == ["a.png", "b.png", "d.png", "more/c.bmp", "more/c.png"]
    assert len(content["annotations"]) == 10
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 2,
        "category": "right",
        "bbox": [0.2, 0.0, 8.8, 6.0],
        "area": 52.8,
        "iscrowd": 0,
        "score": 0.9,
    }
    assert (done.images, done.objects, done.pictures) == (5, 10, 5)
    assert "10 objects in 5 images; written: predictions.json, 5 pictures" in str(done)
    assert "broken.png" in str(done)
    with pytest.raises(InputError, match="out exists and is not empty, and nothing is overwritten; give another --out"):
        predict_to_folder(Spotter(), folder, out)


def test_to_folder_is_read_by_pycocotools(tmp_path, folder, capsys):
    from pycocotools.coco import COCO

    predict_to_folder(Spotter(), folder / "a.png", tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    coco.loadRes(coco.dataset["annotations"])
    assert len(coco.anns) == 1
    capsys.readouterr()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["predictions.json"]


def test_to_folder_of_images_in_memory_and_masks(tmp_path):
    class Masks(Spotter):
        def forward(self, images, targets=None):
            mask = torch.zeros(1, 6, 8, dtype=torch.bool)
            mask[0, 1:3, 2:5] = True
            points = torch.tensor([[[1.0, 2.0, 2.0]]])
            return [
                Instances(
                    (6, 8),
                    classes=CLASSES,
                    boxes=[[2, 1, 5, 3]],
                    labels=[0],
                    scores=[1.0],
                    masks=mask,
                    keypoints=points,
                )
                for _ in images
            ]

    from sightline.ops.masks import rle_to_mask

    predict_to_folder(Masks(), [picture(0), picture(1)], tmp_path / "out")
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [i["file_name"] for i in content["images"]] == ["image0.png", "image1.png"]
    entry = content["annotations"][0]
    assert rle_to_mask(entry["segmentation"]).nonzero().tolist() == [[y, x] for y in (1, 2) for x in (2, 3, 4)]
    assert entry["area"] == 6
    assert entry["keypoints"] == [1.0, 2.0, 2.0]


def test_to_folder_until_ctrl_c(tmp_path, folder, caplog):
    """What has been predicted is written, and the image that is being written is finished."""

    def draw(image, result):
        if image.shape[2] == 8:  # b.png, the second one
            signal.raise_signal(signal.SIGINT)
        return Image.new("RGB", result.image_size[::-1])

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        predict_to_folder(Spotter(), folder, tmp_path / "drawn", draw=draw, batch_size=1)
    assert signal.getsignal(signal.SIGINT) is before
    content = json.loads((tmp_path / "drawn" / "predictions.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png"]
    assert [one["image_id"] for one in content["annotations"]] == [1, 2]
    assert sorted(file.name for file in (tmp_path / "drawn").iterdir()) == ["a.png", "b.png", "predictions.json"]
    assert "drawn holds the predictions of 2 of 4 images: predictions.json; an output" in caplog.text

    class Stopped(Spotter):
        def forward(self, images, targets=None):
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("a batch takes long: it is not waited for")

    with pytest.raises(KeyboardInterrupt):
        predict_to_folder(Stopped(), folder, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_videos_beside_images_and_pages_after_the_first_are_said(tmp_path, folder, caplog):
    predict_to_folder(Spotter(), folder, tmp_path / "out")
    assert caplog.text == ""
    for name in ("x.mp4", "y.mov"):
        (folder / name).write_bytes(b"never read")
    picture(0).save(folder / "e.tif", save_all=True, append_images=[picture(9), picture(18)])
    picture(0).save(folder / "f.tif", save_all=True, append_images=[picture(9)])
    for number, source in enumerate([folder, str(folder / "*"), [folder]]):
        caplog.clear()
        predict_to_folder(Spotter(), source, tmp_path / f"out{number}")
        place, pages = [record.getMessage() for record in caplog.records]
        assert place.startswith(f"{folder}{'/*' if number == 1 else ''} has 2 videos beside its images, which are left")
        assert f"name the videos, such as {folder / 'x.mp4'}" in place
        assert pages.startswith(f"{folder / 'e.tif'} has 3 pages, of which only the first is predicted (as in all")


def test_a_damaged_second_page_does_not_stop_the_prediction_of_the_first(folder, caplog, monkeypatch):
    def damaged(path):
        raise InputError(f"cannot read the image {path}: its second page is damaged")

    whole = predict(Spotter(), folder)
    monkeypatch.setattr("sightline.deploy.predict.unread_pages", damaged)
    assert [result.source for result in predict(Spotter(), folder)] == [result.source for result in whole]
    assert caplog.text == ""


def test_to_folder_where_nothing_can_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.png"):
        predict_to_folder(Spotter(), tmp_path / "a.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dataset_is_a_source_and_its_labels_are_not(tmp_path):
    from sightline.data.dataset import Dataset

    target = Instances((6, 8), classes=CLASSES, boxes=[[0, 0, 4, 4]], labels=[0])
    data = Dataset.from_instances([torch.full((3, 6, 8), v, dtype=torch.uint8) for v in (0, 51)], [target] * 2, CLASSES)
    results = predict(Spotter(), data)
    assert [r.source for r in results] == [data.name(0), data.name(1)]
    assert float(results[1].boxes[0, 0]) == pytest.approx(0.2)
    with pytest.raises(InputError, match="an image cannot be of type Instances"):
        predict(Spotter(), [data[0]])


def test_a_device_that_is_not_there():
    with pytest.raises(InputError, match="device is 'cuda:99', but this machine does not have it; it has cpu"):
        predict(Spotter(), picture(0), device="cuda:99")
    with pytest.raises(InputError, match="device is 'tpus'"):
        predict(Spotter(), picture(0), device="tpus")


def test_links_to_folders_are_followed_and_circles_end(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "sightline")
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    picture(51).save(tmp_path / "real" / "deep" / "a.png")
    picture(0).save(tmp_path / "photos" / "b.png")
    try:
        (tmp_path / "photos" / "day").symlink_to(tmp_path / "real")
        (tmp_path / "real" / "deep" / "back").symlink_to(tmp_path / "photos")
    except OSError:
        pytest.skip("links cannot be made here")
    results = predict(Spotter(), tmp_path / "photos")
    names = [str(tmp_path / "photos" / name) for name in ("b.png", "day/deep/a.png")]
    assert [r.source for r in results] == names
    assert any("back" in record.message for record in caplog.records)


def test_plain_modules_that_take_batches_are_told_what_to_take():
    with pytest.raises(InputError, match=r"Conv2d must take a list of images .* a list of results.* \(conv2d\(\)"):
        predict(nn.Conv2d(3, 2, 3), torch.rand(3, 32, 32))


def test_plain_modules_that_return_a_tensor_are_told_what_to_return():
    class Scores(nn.Module):
        def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
            return torch.stack([image.mean((1, 2)) for image in images])

    with pytest.raises(InputError, match=r"Scores must take a list .*; it returned a Tensor"):
        predict(Scores(), torch.rand(3, 32, 32))


def test_an_error_of_a_plain_module_stays_what_it_is():
    class Broken(nn.Module):
        def forward(self, images: list[torch.Tensor]) -> list[torch.Tensor]:
            raise TypeError("unsupported operand")

    with pytest.raises(TypeError, match="unsupported operand"):
        predict(Broken(), torch.rand(3, 32, 32))
