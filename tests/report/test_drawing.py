"""Pictures: what is drawn where, on which kinds of image, and that the image itself stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.errors import InputError
from sightline.report import contact_sheet, draw, draw_pair, fonts
from sightline.report.colours import class_colour, luminance, text_on
from sightline.report.fonts import drawable, font_for
from sightline.report.pictures import as_picture
from sightline.report.plots import precision_recall_curves, training_curves
from sightline.structures import BACKGROUND, IGNORE, Classes, ClassMap, ClassScores, Instances

CLASSES = Classes(["cat", "dog", "собака", "a class of a very long name that fits no picture"])
BOX = [60.0, 50.0, 120.0, 110.0]


def grey(height=200, width=240):
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def one(height=200, width=240, **fields):
    return Instances((height, width), classes=CLASSES, **({"boxes": [BOX], "labels": [0]} | fields))


def test_only_pixels_near_the_box_change_and_the_image_does_not():
    image = grey()
    before = image.clone()
    picture = np.asarray(draw(image, one(scores=[0.9])))
    assert torch.equal(image, before)
    changed = (picture != 128).any(2)
    assert changed[50:110, 60:120].any()
    outside = changed.copy()
    outside[30:115, 55:150] = False
    assert not outside.any()
    inside = changed[54:106, 64:116]
    assert not inside.any()  # a box is an outline
    assert (picture[50, 60:120] == class_colour(0)).all()
    assert (picture[109, 60:120] == class_colour(0)).all()  # the last row inside the box


def test_names_can_be_left_out():
    changed = (np.asarray(draw(grey(), one(), names=False)) != 128).any(2)
    assert not changed[:48].any()
    assert (np.asarray(draw(grey(), one())) != 128).any(2)[:48].any()


def test_every_kind_of_image(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (200, 240, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(rgb))
    Image.fromarray(rgb).save(tmp_path / "a.png")
    tensor = torch.from_numpy(rgb.transpose(2, 0, 1).copy())
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(rgb), rgb, tensor, tensor.float() / 255):
        assert np.array_equal(np.asarray(as_picture(image)), expected)
        assert draw(image, one()).size == (240, 200)
    alpha = np.concatenate([rgb, rgb[:, :, :1]], 2)
    assert np.array_equal(np.asarray(as_picture(alpha)), expected)
    assert np.array_equal(np.asarray(as_picture(Image.fromarray(alpha))), expected)
    flat = rgb[:, :, 0]
    for image in (flat, Image.fromarray(flat), torch.from_numpy(flat.copy()), torch.from_numpy(flat.copy())[None]):
        assert np.array_equal(np.asarray(as_picture(image)), np.repeat(flat[:, :, None], 3, 2))
    assert as_picture(torch.rand(7, 200, 240)).size == (240, 200)
    assert as_picture(rng.random((200, 240, 7))).size == (240, 200)
    assert as_picture(torch.rand(3, 9, 9).bfloat16()).size == (9, 9)
    assert as_picture(flat > 100).getextrema() == ((0, 255),) * 3


def test_sixteen_bits_are_stretched_so_that_something_is_seen(tmp_path):
    ramp = np.linspace(100, 900, 200 * 240).reshape(200, 240).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    for image in (ramp, torch.from_numpy(ramp.astype(np.int32)), tmp_path / "a.png", Image.fromarray(ramp)):
        shown = np.asarray(as_picture(image))
        assert shown.min() == 0
        assert shown.max() == 255
        assert (np.diff(shown[:, 0, 0].astype(int)) >= 0).all()
    assert np.asarray(as_picture(np.full((5, 5), 7, np.uint16))).max() == 0
    assert np.asarray(as_picture(torch.full((3, 5, 5), float("nan")))).max() == 0


def test_masks_keypoints_and_remarks():
    mask = torch.zeros(1, 200, 240, dtype=torch.bool)
    mask[0, 70:100, 70:110] = True
    plain = np.asarray(draw(grey(), one(), names=False)).astype(int)
    masked = np.asarray(draw(grey(), one(masks=mask), names=False)).astype(int)
    changed = (plain != masked).any(2)
    assert changed[70:100, 70:110].all()
    changed[70:100, 70:110] = False
    assert not changed.any()
    assert (masked[85, 90] != class_colour(0)).any()  # translucent inside
    assert (masked[70, 90] == class_colour(0)).all()  # with an outline
    points = torch.tensor([[[80.0, 80.0, 2.0], [100.0, 90.0, 1.0], [20.0, 20.0, 0.0]]])
    drawn = np.asarray(draw(grey(), one(keypoints=points), names=False, skeleton=[(0, 1), (0, 2)])).astype(int)
    assert (drawn[80, 80] == class_colour(0)).all()
    assert (drawn[85, 90] == class_colour(0)).all()  # the line between the two
    assert (drawn[10:30, 10:30] == 128).all()  # an absent point is not drawn, nor its line
    dashed = np.asarray(draw(grey(), one(), names=False, remarks=["missed"]))
    top = (dashed[50, 60:120] == class_colour(0)).all(1)
    assert top.any()
    assert not top.all()
    with pytest.raises(InputError, match="2 remarks for 1 objects"):
        draw(grey(), one(), remarks=[None, None])


def test_small_images_are_enlarged_by_a_whole_factor():
    small = Instances((60, 96), boxes=[[10, 10, 40, 40]], labels=[0])
    sizes = [draw(torch.zeros(3, 60, 96, dtype=torch.uint8), small, min_size=side).size for side in (0, 96, 97, 320)]
    assert sizes == [(96, 60), (96, 60), (192, 120), (384, 240)]
    assert draw(torch.zeros(3, 60, 96, dtype=torch.uint8), small, size=48, min_size=320).size == (48, 30)


def test_size_and_resized_masks():
    mask = torch.zeros(1, 200, 240, dtype=torch.bool)
    mask[0, 50:110, 60:120] = True
    for size in (120, 480):
        factor = size / 240
        picture = draw(grey(), one(masks=mask), names=False, size=size)
        assert picture.size == (size, round(200 * factor))
        changed = (np.asarray(picture) != 128).any(2)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        for found, wanted in zip((rows[0], rows[-1], columns[0], columns[-1]), (50, 110, 60, 120), strict=True):
            assert abs(found - wanted * factor) <= 3


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (16, 16), (900, 1200)])
def test_odd_sizes_and_awkward_objects(size):
    height, width = size
    boxes = [[0.0, 0, width, height], [-20.0, -20, 5, 5], [0.0, 0, 0, 0], [width - 1.0, 0, width + 30, height]]
    result = Instances(size, classes=CLASSES, boxes=boxes, labels=[0, 1, 2, 3], scores=[0.5] * 4)
    assert draw(grey(*size), result).size == (width, height)
    assert draw(grey(*size), result, remarks=["x"] * 4, size=64).size[0] <= 64
    assert draw(grey(*size), Instances(size)).size == (width, height)
    unnamed = Instances(size, boxes=boxes, labels=[0, 1, 2, 300])
    assert draw(grey(*size), unnamed).size == (width, height)


def test_class_maps_have_a_legend():
    labels = torch.zeros(200, 240, dtype=torch.int64)
    labels[:, 120:] = 1
    labels[:20] = IGNORE
    picture = draw(grey(), ClassMap(labels, CLASSES), opacity=0.5)
    assert picture.width == 240
    assert picture.height > 200
    pixels = np.asarray(picture).astype(int)
    for x, label in ((60, 0), (180, 1)):
        expected = (np.array(class_colour(label)) + 128) / 2
        assert np.abs(pixels[100, x] - expected).max() <= 1
    assert (pixels[5, 5] == 64).all()
    legend = pixels[200:].reshape(-1, 3)
    assert all((legend == class_colour(label)).all(1).any() for label in (0, 1))
    assert draw(grey(), ClassMap(labels), names=False).size == (240, 200)
    assert draw(grey(), ClassMap(labels, CLASSES), size=120).width == 120


def test_a_list_of_results_is_none():
    with pytest.raises(InputError, match="draw takes the result of one image, not a list of 1"):
        draw(grey(), [Instances((200, 240))])


def test_a_legend_wider_than_its_picture_is_whole():
    names = Classes(["the impervious surfaces of a town", "grass"])
    target = ClassMap(torch.zeros(24, 24, dtype=torch.int64), names)
    legend = np.asarray(draw(torch.zeros(3, 24, 24, dtype=torch.uint8), target))[24:]
    assert legend.shape[1] > 150
    assert (legend[:, :4] == legend[0, 0]).all()  # empty at both ends
    assert (legend[:, -2:] == legend[0, 0]).all()


def test_the_background_of_a_class_map_is_not_tinted():
    labels = torch.zeros(200, 240, dtype=torch.int64)
    labels[:, 120:] = 1
    pixels = np.asarray(draw(grey(), ClassMap(labels, Classes([BACKGROUND, "cell"])), opacity=0.5)).astype(int)
    assert (pixels[100, 60] == 128).all()
    assert np.abs(pixels[100, 180] - (np.array(class_colour(1)) + 128) / 2).max() <= 1
    legend = pixels[200:].reshape(-1, 3)
    assert (legend == class_colour(1)).all(1).any()
    assert not (legend == class_colour(0)).all(1).any()


def test_image_classes_have_bars():
    scores = ClassScores((200, 240), label=3, scores=torch.tensor([0.6, 0.3, 0.06, 0.04]), classes=CLASSES)
    picture = np.asarray(draw(grey(), scores))
    assert (picture[:200] == 128).all()
    lengths = [(picture[200:] == class_colour(i)).all(2).any(0).sum() for i in range(3)]
    assert lengths == sorted(lengths, reverse=True)
    assert abs(lengths[0] - 0.6 * 240) < 4
    assert draw(grey(), ClassScores((200, 240), label=1, classes=CLASSES)).height > 200
    assert draw(grey(), ClassScores((200, 240), label=1, scores=torch.ones(2))).height > 200


def test_pairs_and_contact_sheets():
    pair = draw_pair(grey(), one(), one(scores=[0.5]), prediction_remarks=["place"], size=120)
    assert pair.width == 2 * 120 + 6

    class Data:
        def __len__(self):
            return 10

        def __getitem__(self, i):
            return grey(), one()

        def name(self, i):
            return f"folder/{i}.png"

    calls = []

    def flip(image, target, generator):
        calls.append(generator.random())
        boxes = target.boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([240, 0, 240, 0])
        return image.flip(2), target.replace(boxes=boxes)

    sheet = contact_sheet(Data(), flip, n=6, columns=3, size=100)
    assert len(calls) == 6
    assert sheet.width == 3 * 100 + 2 * 6
    again = contact_sheet(Data(), flip, n=6, columns=3, size=100)
    assert np.array_equal(np.asarray(sheet), np.asarray(again))
    assert contact_sheet(Data(), n=99, columns=4).width == 4 * 260 + 3 * 6
    assert contact_sheet(Data(), n=1).width == 260
    with pytest.raises(InputError, match="n is 0"):
        contact_sheet(Data(), n=0)
    with pytest.raises(InputError, match="no images"):
        contact_sheet([])


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="240×200 pixels, but this one has 50×40"):
        draw(grey(40, 50), one())
    with pytest.raises(InputError, match=r"there is no image .*missing\.png"):
        draw(tmp_path / "missing.png", one())
    with pytest.raises(InputError, match="cannot draw on a dict"):
        draw({}, one())
    with pytest.raises(InputError, match=r"shape \[1, 3, 5, 5\]"):
        draw(torch.zeros(1, 3, 5, 5), one())


def test_colours_are_distinct_and_text_on_them_is_legible():
    colours = [class_colour(i) for i in range(80)]
    assert len({class_colour(i) for i in range(5000)}) == 5000
    assert colours == [class_colour(i) for i in range(80)]
    for colour in colours:
        light, dark = sorted((luminance(colour), luminance(text_on(colour))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_in_a_crowd_the_labels_leave_the_picture_to_be_seen() -> None:
    """Of 400 objects the largest have labels, of a dozen all."""
    grid = torch.arange(20) * 20.0
    x, y = (t.flatten() for t in torch.meshgrid(grid, grid, indexing="xy"))
    boxes = torch.stack([x + 4, y + 4, x + 12, y + 12], 1)
    boxes[0] = torch.tensor([100, 100, 300, 300])
    many = Instances((400, 400), classes=["thing"], boxes=boxes, labels=torch.zeros(400, dtype=torch.int64))
    blank = np.zeros((400, 400, 3), np.uint8)
    named, bare = (np.asarray(draw(blank, many, names=names)) for names in (True, False))
    covered = (named != bare).any(-1)
    assert 0.05 < covered.mean() < 0.2
    assert covered[80:100, 100:160].any()  # the largest has its own
    few = np.asarray(draw(blank, many[:12])) != np.asarray(draw(blank, many[:12], names=False))
    assert few.any(-1).sum() > 12 * 100


def _lab(colour: tuple[int, int, int]) -> np.ndarray:
    """CIELAB of an sRGB colour (CIE 15; D65)."""
    linear = [(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in (v / 255 for v in colour)]
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.array(to_xyz) @ linear / [0.95047, 1, 1.08883]
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def test_colours_of_near_ids_differ_clearly():
    """The least ΔE (CIE 1976) is 22 of ids up to 6 apart and 20 of ids up to 12 apart; 2.3 can just be noticed."""
    lab = [_lab(class_colour(i)) for i in range(96)]
    for apart, least in ((6, 22), (12, 20)):
        pairs = [(i, j) for i in range(96) for j in range(i + 1, min(i + apart + 1, 96))]
        assert min(float(np.linalg.norm(lab[i] - lab[j])) for i, j in pairs) > least


def test_masks_of_one_class_have_a_colour_each():
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    masks[0, 5:30, 5:25] = masks[1, 5:30, 25:55] = True
    boxes = [[5, 5, 25, 30], [25, 5, 55, 30]]
    blank = np.full((40, 60, 3), 128, np.uint8)
    for classes, expected in ((["cell"], (0, 1)), (["cell", "dust"], (0, 0))):
        target = Instances((40, 60), boxes=boxes, labels=[0, 0], masks=masks, classes=classes)
        pixels = np.asarray(draw(blank, target, names=False)).astype(int)
        for x, position in zip((15, 40), expected, strict=True):
            assert np.abs(pixels[17, x] - (0.55 * 128 + 0.45 * np.array(class_colour(position)))).max() <= 1


@pytest.mark.parametrize("text", ["pomme brûlée", "Größe ß ÿ", "кошка", "αβγ", "Łódź", "cat 12"])
def test_letters_of_europe_are_drawn(text: str):
    pytest.importorskip("matplotlib")
    assert drawable(text) == text
    pictures = {bytes(font_for(text, 24).getmask(letter)) for letter in text}
    assert len(pictures) == len(set(text))  # no two letters look alike, as boxes for missing ones would


def test_letters_that_no_font_has_are_written_as_codes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fonts, "_installed", tuple)
    fonts._font_of.cache_clear()
    try:
        assert drawable("猫") == "U+732B"
        assert drawable("кот 猫犬!") == "кот U+732B U+72AC !"
        assert drawable("a\ud800b") == "a U+D800 b"
        with_code = draw(np.zeros((60, 300, 3), np.uint8), Instances((60, 300), boxes=[[5, 30, 90, 55]], labels=[0],
                         classes=["猫"]))  # fmt: skip
        assert np.asarray(with_code)[:28].any()
    finally:
        fonts._font_of.cache_clear()


def test_letters_that_no_font_has_are_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(fonts, "_installed", tuple)
    monkeypatch.setattr(fonts, "_told", set())
    fonts._font_of.cache_clear()
    try:
        assert drawable("a\nb") == "a U+000A b"
        assert not caplog.messages  # a font would not help
        drawable("猫")
        drawable("犬")
        (message,) = caplog.messages
        assert message.startswith("no font of this computer has all letters of 猫: pictures show their codes")
    finally:
        fonts._font_of.cache_clear()


def test_an_installed_font_is_taken_where_it_has_more_letters(monkeypatch: pytest.MonkeyPatch):
    calls = {"plain.ttf": set("abc"), "wide.ttf": set("abc猫犬")}
    monkeypatch.setattr(fonts, "_candidates", lambda letters: iter(["", *calls]))
    monkeypatch.setattr(fonts, "_has", lambda path, letter: letter in calls.get(path, set("ab")))
    fonts._font_of.cache_clear()
    try:
        assert fonts._font_of("ab") == ""
        assert fonts._font_of("abc") == "plain.ttf"
        assert fonts._font_of("a犬猫") == "wide.ttf"
        assert drawable("a猫鳥") == "a猫 U+9CE5"
    finally:
        fonts._font_of.cache_clear()


def test_legends_lie_beside_the_curves():
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names = ("train/loss", "train/loss_classification", "train/loss_box", "val/loss", "val/AP", "val/AP50")
    rows = [{"epoch": e + 1, "lr": 0.1} | {name: (k + 1) / (e + 7) for k, name in enumerate(names)} for e in range(5)]
    figures = training_curves(rows)
    recall = [0, 0.5, 1]
    curves = {name: {"recall": recall, "precision": [1, 0.9, 0.8]} for name in "ab"}
    figures["precision"] = precision_recall_curves(curves, {"a": 0, "b": 1})
    for figure in (figures["Loss"], figures["Validation"], figures["precision"]):
        FigureCanvasAgg(figure).draw()
        (axes,) = figure.axes
        legend, plot = axes.get_legend().get_window_extent(), axes.get_window_extent()
        assert legend.x0 >= plot.x1
        assert legend.x1 <= figure.bbox.x1
        assert plot.width > 0.45 * figure.bbox.width


def test_one_epoch_has_one_tick():
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figures = training_curves([{"epoch": 3, "lr": 0.1, "train/loss": 2.0, "val/loss": 3.0}])
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()
        (axes,) = figure.axes
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [3]


def test_a_contact_sheet_of_captions_of_different_lengths_leaves_no_empty_cells() -> None:
    """An image with a long list of captions needs a high picture; the ones beside it are no higher for that."""
    short, long = one(captions=["a cat"]), one(captions=["a cat on a mat in front of a red wall " * 8])
    data = [(grey(), target) for target in (long, short, short, short, short, long)]
    sheet = np.asarray(contact_sheet(data, columns=3, size=120))
    heights = [np.asarray(contact_sheet([sample], size=120)).shape[0] for sample in data]
    assert heights[0] > heights[1] + 30
    assert sheet.shape[0] == max(heights[0], heights[1] + 6 + heights[3] + 6 + heights[5], heights[2] + 6 + heights[4])
    title = np.asarray(contact_sheet(data[:1], size=120))[:18], np.asarray(contact_sheet(data[1:2], size=120))[:18]
    assert np.array_equal(*title)  # of the same size, however high the picture is


def test_a_label_without_scores_is_as_bright_as_a_class_with_a_score() -> None:
    """Beside scores it is faint, because it is not among the best classes."""
    label = ClassScores((200, 240), 1, classes=CLASSES)
    below = np.asarray(draw(grey(), label))[200:]
    assert below.max() > 220
    scores = torch.tensor([0.1, 0.0, 0.3, 0.6])
    below = np.asarray(draw(grey(), ClassScores((200, 240), 1, scores, CLASSES), scores=False))[200:]
    assert below[-20:].max() < 150
