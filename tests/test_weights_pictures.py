"""Pictures are prepared for loaded weights as in the training of the published ones."""

from __future__ import annotations

import numpy as np
import pytest

from minswin import cli
from minswin.data.pictures import prepare
from minswin.models import create_model
from minswin.training.classifiers import statistics
from minswin.weights.files import save_weights
from minswin.weights.rename import rename

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of red, green, blue
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def test_predict_prepares_a_picture_as_published_and_numbers_the_classes(tmp_path, capsys):
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 83, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    resized = Image.fromarray(pixels).resize((59, 36), Image.Resampling.BICUBIC)  # 36·83//50
    expected = np.asarray(resized)[2:34, 14:46].transpose(2, 0, 1)  # round(13.5) is 14
    found = prepare(tmp_path / "a.png", (32, 32))
    assert found.shape == (3, 32, 32) and np.array_equal(found, expected)
    squeezed = Image.fromarray(pixels).resize((384, 384), Image.Resampling.BICUBIC)
    assert np.array_equal(prepare(tmp_path / "a.png", (384, 384)).transpose(1, 2, 0), squeezed)

    made = create_model("swin_cifar_small", num_classes=7, rng=rng)
    save_weights(tmp_path / "a.safetensors", rename(made.state_dict(), "minswin", "timm"))
    command = ["predict", str(tmp_path / "a.png"), "--model", "swin_cifar_small"]
    assert cli.main([*command, "--weights", str(tmp_path / "a.safetensors"), "--top", "7"]) == 0
    out = capsys.readouterr().out
    mean, std = (np.array(x)[:, None, None] for x in IMAGENET)
    x = ((expected / 255 - mean) / std).astype(np.float32)[None]
    logits = made.eval()(x).data[0]
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    about, _, *lines = out.splitlines()
    assert about.startswith("swin_cifar_small, 32×32, 7 classes, weights of ")
    assert lines[0].startswith(f"class {shares.argmax()} ") and len(lines) == 7
    assert f"{shares.max():.1%}" in lines[0]
    assert cli.main(command) == 2
    assert "belong together" in capsys.readouterr().err
    command[3:] = ["vit_cifar_small", "--weights", str(tmp_path / "a.safetensors")]
    assert cli.main(command) == 2
    assert "a.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        ("swin_tiny", "microsoft", IMAGENET),
        ("swinv2_tiny_window8_256", "transformers", IMAGENET),
        ("vit_base", "timm", HALF),
        ("vit_base", "transformers5", HALF),
        ("vit_base", "torchvision", IMAGENET),
        ("deit_base_distilled", "timm", IMAGENET),
        ("tnt_small", "original", HALF),
        ("resnet50", "torchvision", IMAGENET),
    ],
)
def test_pictures_are_normalised_as_in_the_training_of_the_published_weights(name, other, expected):
    assert statistics(name, other) == expected
