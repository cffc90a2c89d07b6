"""Label images in the browser: `annotate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.data.images import is_image
from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.labelling.label_file import LabelFile, Shape
from sightline.ops.masks import mask_to_polygons
from sightline.words import counted

if TYPE_CHECKING:
    from sightline.labelling.server import LabellingServer, Suggest
    from sightline.structures import Instances

NAME = "annotations.json"
"""The label file in a folder of images."""


@checked_keywords
def annotate(
    images: str | Path | Sequence[str | Path],
    *,
    classes: Sequence[str] = (),
    out: str | Path | None = None,
    model: nn.Module | str | Path | None = None,
    threshold: float | None = None,
    port: int = 8010,
    open_browser: bool = True,
    say: Callable[[str], object] = print,
) -> Path:
    """Label images with boxes and outlines on a page in the browser, until Ctrl-C.

    Each change is written to a COCO file at once. `open_dataset` reads the folder with it, and `train` trains on the
    images that have been labelled. The server listens on this machine only.

    Args:
        images: a folder, whose subfolders are searched, too, or files.
        classes: names of the classes; more can be added on the page.
        out: the file of labels; by default annotations.json in the folder. If it exists, it is continued: images with
            labels can be corrected, and what the page cannot edit, such as keypoints, is kept.
        model: a detector whose predictions can be taken over on the page.
        threshold: minimum score of its predictions; by default the one saved with the model.
        port: the port of the page; 0 for any free one.
        open_browser: open the page.
        say: is called with the address of the page.

    Returns:
        The file of labels.

    Raises:
        InputError: there are no images, the file is not a COCO file, the model predicts no boxes, or the port is in
            use.
    """
    server = labelling_server(images, classes=classes, out=out, model=model, threshold=threshold, port=port)
    labels = server.labels
    labels.write()  # an error shows before the first object is drawn
    say(
        f"{counted(len(labels.images), 'image')} to label at {server.url}; the labels are written to {labels.path} "
        "after each change; Ctrl-C stops"
    )
    if open_browser:
        import webbrowser

        webbrowser.open(server.url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return labels.path


def labelling_server(
    images: str | Path | Sequence[str | Path],
    *,
    classes: Sequence[str] = (),
    out: str | Path | None = None,
    model: nn.Module | str | Path | None = None,
    threshold: float | None = None,
    port: int = 0,
) -> LabellingServer:
    """The server of `annotate`, not yet started. Arguments and errors are those of `annotate`."""
    from sightline.labelling.server import LabellingServer

    paths, root = _listed(images)
    file = root / NAME if out is None else Path(out)
    if file.suffix.lower() != ".json" or not file.parent.is_dir():
        raise InputError(f"{file}: the labels are one .json file in a folder that exists; give another name by --out")
    known = None if model is None else _suggestions(model, threshold)
    return LabellingServer(LabelFile(file, paths, root, classes), known, port)


def _listed(images: str | Path | Sequence[str | Path]) -> tuple[list[Path], Path]:
    """The image files, and the folder that their names are relative to."""
    from sightline.data.formats.files import images_below

    given = [Path(images)] if isinstance(images, str | Path) else [Path(one) for one in images]
    if len(given) == 1 and given[0].is_dir():
        return [given[0] / name for name in images_below(given[0])], given[0]
    for path in given:
        if not path.is_file() or not is_image(path):
            raise InputError(f"{path} is not an image file; give a folder of images, or image files")
    return list(dict.fromkeys(given)), given[0].parent if given else Path()


def _suggestions(model: nn.Module | str | Path, threshold: float | None) -> Suggest:
    """The function that finds objects by a model."""
    from sightline.models.detection.detector import Detector
    from sightline.verbs.opening import load_model
    from sightline.verbs.predict import predict

    known: Any = load_model(model)
    if not isinstance(known, Detector):
        raise InputError(f"{known.title} does not predict boxes; give a detector for suggestions")
    return lambda path: _shapes(predict(known, path, threshold=threshold), list(known.classes))


def _shapes(found: Instances, names: Sequence[str]) -> list[Shape]:
    """The objects of a prediction; a mask in one piece becomes an outline."""
    shapes = []
    for k, (label, box) in enumerate(zip(found.labels.tolist(), found.boxes.tolist(), strict=True)):
        polygons = mask_to_polygons(found.masks[k]) if "masks" in found else []
        outline = None
        if len(polygons) == 1:
            outline = tuple(zip(polygons[0][::2], polygons[0][1::2], strict=True))
        shapes.append(Shape(names[label], (box[0], box[1], box[2], box[3]), outline))
    return shapes
