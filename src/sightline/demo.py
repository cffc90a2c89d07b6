"""The whole workflow on rendered scenes: data → check → train → evaluate → look → predict → save.

`make demo` and `sightline demo` run it. It uses the public functions only, as a user would.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import sightline as sl
from sightline.errors import InputError

SCENES = {"train": 600, "val": 60, "test": 100}
SIZE = 160


def demo(out: str | Path = "demo", minutes: float = 4.0) -> Path:
    """Render scenes, train the default detector on them, evaluate it on unseen scenes, and draw its predictions.

    Args:
        out: the folder for all files: scenes/, run1/ (then run2/, …) with report.html, pictures/ and the model.
        minutes: training time.

    Returns:
        The run's folder.

    Raises:
        InputError: the folder cannot be used, or `minutes` is not a positive number.
    """
    out = Path(out)
    sl.Recipe.from_dict({"minutes": minutes}, "the demo")  # checks `minutes` before anything is written
    began = perf_counter()
    _step("1. render scenes with exact labels")
    data = sl.open_dataset(_scenes(out / "scenes"))
    print(data)

    _step("2. check them")
    report = sl.check(data, progress=False)
    print(report)
    if not report.ok:
        raise InputError(f"{out / 'scenes'} has been changed and cannot be trained on; remove it and start again")

    _step(f"3. train a detector, {minutes:g} minutes")
    run = sl.train(data=data["train"], validation=data["val"], runs=out, minutes=minutes)
    if run.interrupted:
        raise KeyboardInterrupt

    _step("4. evaluate it on scenes it never saw")
    test = data["test"]
    result = sl.evaluate(run.model, test)
    print(result)
    sl.write_report(run.folder, result, data=test, model=run.model)

    _step("5. look, predict, save")
    pictures = run.folder / "pictures"
    pictures.mkdir()
    for i in range(12):
        picture = test.path(i)
        assert picture is not None
        found = sl.predict(run.model, picture)  # at the score threshold that training saved with the model
        sl.draw(picture, found, size=480).save(pictures / picture.name)
    sl.contact_sheet(data["train"], "light", n=12).save(run.folder / "training_images.png")
    file = sl.save(run.model, run.folder / "solids.safetensors")
    print(f"{file}: one file, {file.stat().st_size / 1e6:.1f} MB; load the model with sl.load({str(file)!r})")

    scenes = out / "scenes"
    print(
        f"\nDone in {(perf_counter() - began) / 60:.1f} minutes: "
        f"AP50 {result.metrics['AP50']:.3f} on {len(test)} test scenes.\n"
        f"  report    {run.folder / 'report.html'}\n"
        f"  pictures  {pictures}\n"
        "Next, with your own images and labels (COCO, VOC or YOLO) in place of the scenes:\n"
        f"  sightline check {scenes}\n"
        f"  sightline train {scenes} --epochs 30\n"
        f"  sightline predict {run.folder} {scenes / 'test'} --out {out / 'found'}"
    )
    return run.folder


def _scenes(folder: Path) -> Path:
    from sightline.data.scenes import write_scenes

    if folder.is_dir() and any(folder.iterdir()):
        print(f"{folder} exists and is used again")
        return folder
    return write_scenes(folder, SCENES["train"], SCENES["val"], SCENES["test"], SIZE, seed=0)


def _step(title: str) -> None:
    print(f"\n── {title} ──", flush=True)
