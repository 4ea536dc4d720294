"""A run becomes weights of the package: float16, what it is as JSON, and a card for its users.

    python tests/model_card.py RUN NAME --data-dir DIR --seconds 3412 --cpu "two cores of …"

writes NAME.safetensors, NAME.json and NAME.md into minswin/pretrained (or --folder). Where NAME is
a named model and the run one with the same settings, the file is of that name. The weights of the
file are tested, not those of the run. This is the one place where the test images are asked: do it
once, of a run that held-out images chose. `minswin train` prints the seconds.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minswin import data, data_parallel, no_grad
from minswin.models.registry import CLASSES, MODELS
from minswin.replacing import write_text
from minswin.training import load_trained_model, recipe
from minswin.training.checkpoints import FOLDER, export, read_checkpoint, save_exported
from minswin.training.evaluation import evaluate_checkpoint, mirrored
from minswin.training.folder import LOG
from minswin.training.inputs import evaluation_batches
from minswin.training.progress import read_journal
from minswin.weights.recognise import full_settings

OF_A_MACHINE = ("data", "data_dir", "download", "device", "threads", "workers", "out")
OF_THE_DATA = ("img_size", "num_classes", "dtype", "rng")
BINS = 10  # of confidence
CURVE = 12  # lines of it, about


class Tested(NamedTuple):
    """Answers for the test images, in shares of 1."""

    accuracy: float
    flips: float  # accuracy where each image is classified together with its mirror image
    per_class: list[float]
    confidence: float  # the mean probability of what was named
    calibration: float


def test(file: Path, data_dir: str | None) -> tuple[Tested, int]:
    """Classify the test images with packaged weights; also gives how many there are."""
    model, info = load_trained_model(file)
    where = {"data_dir": data_dir} if data_dir else {}
    images = data.load(info["data"]["name"], split="test", **where)
    forward = data_parallel(model)
    p, both = (_probabilities(answer, images, info) for answer in (forward, mirrored(forward)))
    named, sure = p.argmax(1), p.max(1)  # (images,)
    right = named == images.labels
    per_class = [float(right[images.labels == k].mean()) for k in range(len(images.classes))]
    flips = float((both.argmax(1) == images.labels).mean())
    tested = Tested(
        float(right.mean()), flips, per_class, float(sure.mean()), calibration(sure, right)
    )
    return tested, len(images)


def _probabilities(forward: Any, images: Any, info: dict[str, Any]) -> np.ndarray:
    """(images, K)"""
    parts = evaluation_batches(images, (info["data"]["mean"], info["data"]["std"]))
    with no_grad():
        z = np.concatenate([forward(x).numpy() for x, _ in parts]).astype(np.float64)
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def calibration(confidence: np.ndarray, right: np.ndarray) -> float:
    """How far confidence and accuracy lie apart, on average.     Guo et al. 2017, eq. (3): ECE

    confidence, right: of each image (n,); bins of equal width count by their images
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs((right[bins == b] - confidence[bins == b]).sum()) for b in range(BINS)]
    return float(sum(gaps) / len(right))


def command(settings: dict[str, Any]) -> str:
    """The `minswin train …` that these settings are of."""
    usual = {**asdict(recipe(settings["data"], epochs=settings["epochs"])), "epochs": None}
    words = ["minswin", "train", "--data", settings["data"], "--data-dir", "DIR"]
    for name, value in settings.items():
        if name in OF_A_MACHINE or name not in usual or value == usual[name]:
            continue
        flag = "--" + name.replace("_", "-")
        if name == "model_settings":
            for key, chosen in value.items():
                words += ["--set", f"{key}={chosen}"]
        elif isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        else:
            words += [flag, str(value)]
    return shlex.join(words)


def under_the_name(name: str, info: dict[str, Any]) -> dict[str, Any]:
    """What a run is, told as a named model where `name` is one; it must be the same model."""
    run = info["model"]
    if name not in MODELS or name == run["name"]:
        return info
    made, wanted = (
        {**full_settings(n), **s} for n, s in ((run["name"], run["settings"]), (name, {}))
    )
    compared = wanted.keys() - {*OF_THE_DATA, "recompute"}
    other = sorted(k for k in compared if json.dumps(made.get(k)) != json.dumps(wanted[k]))
    if other or CLASSES[name] is not CLASSES[run["name"]]:
        raise SystemExit(
            f"model_card: the run is of another model than {name}: {', '.join(other)} differ; "
            "choose another name, or mend minswin/models/registry.py"
        )
    kept = {k: v for k, v in run["settings"].items() if k in OF_THE_DATA}
    settings = {**info["settings"], "model": name, "model_settings": None}
    return {**info, "model": {"name": name, "settings": kept}, "settings": settings}


def card(
    name: str, file: Path, info: dict[str, Any], tested: Tested, images: int, held_out: float,
    journal: list[dict[str, Any]], seconds: float, cpu: str,
) -> str:  # fmt: skip
    """The text of the model card."""
    model, told = load_trained_model(file)
    settings, trained_on = info["settings"], info["data"]
    classes, (_, height, width) = trained_on["classes"], trained_on["image"]
    own = {**MODELS[model.name], **(told["settings"].get("model_settings") or {})}
    made = ", ".join(f"{k} {v}" for k, v in own.items() if k not in ("img_size", "num_classes"))
    kept = f"{settings['holdout']:,} training images that chose the epoch"
    facts = {
        f"test accuracy ({images:,} images, nothing was chosen by them)": f"{tested.accuracy:.1%}",
        "the same, each image with its mirror image": f"{tested.flips:.1%}",
        f"held-out accuracy ({kept}), float32 weights": f"{info['accuracy']:.2%}",
        "the same with these float16 weights": f"{held_out:.2%}",
        "mean confidence on the test images": f"{tested.confidence:.1%}",
        f"calibration error (ECE, {BINS} bins)": f"{tested.calibration:.1%}",
        "epoch": f"{info['epoch']} of {settings['epochs']} epochs",
        "time": f"{seconds:,.0f} s for all epochs, evaluation after each of them included",
    }
    return f"""# {name}, trained on {trained_on["name"]}

A {model.name} for {height}×{width} images ({made}):
{model.parameter_count():,} parameters, {model.flops() / 1e6:.0f} million multiply-adds an image.
Trained from scratch by minswin, on {cpu}, without a GPU.

| | |
|---|---|
{_rows(facts)}

```sh
{command(settings)}
python tests/model_card.py RUN {name} --data-dir DIR
```

| epoch | training accuracy | held-out accuracy |
|---|---|---|
{_rows(_curve(journal))}

| class | test accuracy |
|---|---|
{_rows({k: f"{share:.1%}" for k, share in zip(classes, tested.per_class, strict=True)})}

**Use.** `minswin predict picture.png` names the one of {len(classes)} classes that a picture shows,
squeezed to {height}×{width}. A picture of anything else gets one of these names too, and the
probabilities are those of small pictures of single objects: they do not say that something is none
of them. Nothing that matters to people may depend on its answers.

**Data.** {trained_on["images"]:,} images of {trained_on["name"]}; they are not in the package.

**File.** float16 weights, and the run's settings as JSON in the file's metadata; the `.json` beside
it is a copy to read.
"""


def _rows(cells: dict[Any, str]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in cells.items())


def _curve(journal: list[dict[str, Any]]) -> dict[int, str]:
    """Some of the epochs, the first and the last among them."""
    epochs = [record for record in journal if record["kind"] == "epoch"]
    step = max(1, len(epochs) // CURVE)
    shown = {r["epoch"]: r for r in [epochs[0], *epochs[step - 1 :: step], epochs[-1]]}
    return {n: f"{r['accuracy']:.1%} | {r['evaluation_accuracy']:.1%}" for n, r in shown.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("name", help="of the weights in the package")
    parser.add_argument("--data-dir", help="folder of the CIFAR files")
    parser.add_argument("--seconds", type=float, required=True, help="that the run took")
    parser.add_argument("--cpu", default="two cores of an AMD EPYC", help="what it ran on")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    chosen = parser.parse_args(arguments)
    file = chosen.folder / f"{chosen.name}.safetensors"
    info = export(chosen.run, file)  # whose command the card shows
    named = under_the_name(chosen.name, info)
    if named is not info:
        save_exported(file, named, read_checkpoint(file).weights)
    held = evaluate_checkpoint(file, split="held-out", data_dir=chosen.data_dir).result.accuracy
    tested, images = test(file, chosen.data_dir)
    journal = read_journal(chosen.run / LOG)
    text = card(chosen.name, file, info, tested, images, held, journal, chosen.seconds, chosen.cpu)
    write_text(file.with_suffix(".md"), text, who="model_card")
    print(f"{file}: {file.stat().st_size:,} bytes; test {tested.accuracy:.1%}")


if __name__ == "__main__":
    main()
