"""The recipe that a checkpoint and its exports carry: what differed from the paper's, worked out
from the config.
"""

import json
from dataclasses import replace

import onnx
import pytest

from export.cli import main as vgg_export
from tests.support.nets import save_net, thin_net
from tests.support.options import options
from tests.support.run import run
from train.__main__ import main as train
from train.recipe.config import RECIPES, TrainConfig
from train.recipe.provenance import Circumstances, describe_recipe
from train.recipe.stages import CHAINS, FineTune, config_of
from vgg_deploy.net.checkpoint import load_checkpoint

PAPER = RECIPES["paper"]
IMAGENET = Circumstances(images=1_281_167, classes=1000, from_a=True)


@pytest.mark.parametrize(
    ("config", "about", "text"),
    [
        (PAPER, IMAGENET, "paper recipe"),
        (replace(PAPER, arch="A", seed=5), IMAGENET._replace(from_a=False), "paper recipe"),
        (replace(PAPER, side=(256, 512)), IMAGENET, "paper recipe"),
        (
            replace(PAPER, batch=16, init="he", epochs=1),
            IMAGENET._replace(images=64),
            "paper recipe, except batch 16, epochs 1, init he, 64 images",
        ),
        (
            PAPER,
            IMAGENET._replace(from_a=False),
            "paper recipe, except all layers drawn at random, none from a trained A",
        ),
        (
            replace(PAPER, lr_drops=(50, 65)),
            IMAGENET,
            "paper recipe, except LR divided by 10 after epochs 50 and 65",
        ),
        (
            replace(PAPER, most_drops=2, patience=9),
            IMAGENET,
            "paper recipe, except 2 drops of LR at most, patience 9",
        ),
        (
            replace(PAPER, epochs=3, lr_drops=(7,)),
            IMAGENET,
            "paper recipe, except epochs 3, LR never divided",
        ),
        (
            replace(PAPER, precision="bf16", dropout=0.0),
            IMAGENET,
            "paper recipe, except dropout 0, precision bf16",
        ),
        (replace(PAPER, lrn="caffe"), IMAGENET, "paper recipe"),  # net D has no normalisation
        (replace(PAPER, arch="A-LRN", lrn="caffe"), IMAGENET, "paper recipe, except lrn caffe"),
        (
            replace(PAPER, weight_decay=0.0, bias_decay=1e-4, bias_lr=2.0),
            IMAGENET,
            "paper recipe, except weight decay 0, bias decay 0.0001, bias LR 2",
        ),
        (
            replace(PAPER, side=(300, 300), lr=0.1),
            IMAGENET._replace(classes=10),
            "paper recipe, except S=300, LR 0.1, 10 classes",
        ),
        (
            replace(PAPER, shuffle_buffer=64),
            IMAGENET._replace(shards=True),
            "paper recipe, except shuffled among 64 images of tar shards in 16 streams",
        ),
        (
            PAPER,
            IMAGENET._replace(weights="D/best.pt"),
            "paper recipe, except started from D/best.pt",
        ),
        (
            replace(PAPER, colour_shift=0.0),
            IMAGENET._replace(weights="D.pt", frozen=True),
            "paper recipe, except started from D.pt, only fc6-fc8 trained, on centre crops "
            "without augmentation",
        ),
    ],
)
def test_what_differed_is_named(config, about, text):
    assert describe_recipe(config, about) == text


def test_every_field_of_the_record_is_named_or_known_to_be_of_no_effect():
    """A field that somebody adds later must not go unnamed."""
    silent = {
        "arch",
        "seed",
        "side",
        "lrn",
        "streams",
        "shuffle_buffer",
        "task",
        "box_outputs",
        "box_form",
        "micro_batch",
    }  # named above where they have an effect
    other = {
        "width": 0.5,
        "crop": 192,
        "batch": 32,
        "epochs": 5,
        "lr": 0.5,
        "lr_drops": (2,),
        "most_drops": 1,
        "patience": 2,
        "momentum": 0.8,
        "weight_decay": 0.1,
        "bias_decay": 0.1,
        "bias_lr": 2.0,
        "dropout": 0.1,
        "colour_shift": 0.2,
        "init": "he",
        "precision": "bf16",
    }
    assert set(other) | silent == set(TrainConfig.__dataclass_fields__)
    for name, value in other.items():
        assert describe_recipe(replace(PAPER, **{name: value}), IMAGENET) != "paper recipe", name


def test_a_localiser_is_described_by_its_start_and_its_boxes():
    recipe, about = RECIPES["paper-localise"], IMAGENET._replace(weights="D-384/best.pt")
    begin = "paper recipe of localisation from D-384/best.pt"
    assert describe_recipe(recipe, about) == f"{begin}, per-class boxes"
    other = replace(recipe, box_outputs="shared", box_form="edges", lr=0.01)
    assert describe_recipe(other, about._replace(frozen=True)) == (
        f"{begin}, shared boxes, except LR 0.01, box form edges, only fc6-fc8 trained, on centre "
        "crops without augmentation"
    )


def test_a_stage_at_384_is_described_by_what_it_changes():
    stage = next(stage for stage in CHAINS["paper"] if stage.name == "D-384")
    config = config_of(stage, PAPER, FineTune())
    text = describe_recipe(config, IMAGENET._replace(from_a=False, weights="D-256/best.pt"))
    assert (
        text == "paper recipe, except epochs 37, LR 0.001, 2 drops of LR at most, "
        "started from D-256/best.pt"
    )


@pytest.mark.slow
def test_it_is_in_the_checkpoint_and_in_the_exported_file(here, photos):
    thin = options(
        "--width 0.0625 --crop 32 --side 32:48 --batch 16 --init he --workers 0 --threads 1"
    )
    run(
        train,
        *options(f"--arch A --data {photos}"),
        *thin,
        *options(f"--epochs 1 --images 64 --out {here / 'run'}"),
    )
    expected = (
        "paper recipe, except width 0.0625, crop 32, S in [32;48], batch 16, epochs 1, init he, "
        "64 images, 4 classes"
    )
    assert load_checkpoint(here / "run" / "best.pt").spec.recipe == expected
    run(vgg_export, here / "run" / "best.pt", "--onnx")
    metadata = {
        entry.key: entry.value
        for entry in onnx.load(here / "exported" / "A.fp32.onnx").metadata_props
    }
    assert any(expected in value for value in metadata.values())
    assert json.loads((here / "exported" / "A.fp32.json").read_text())["spec"]["recipe"] == expected


def test_a_head_on_frozen_features_says_so(here, photos):
    weights = save_net(thin_net("A"), here / "A.pt")
    thin = options("--width 0.0625 --crop 32 --side 48 --batch 16 --workers 0 --threads 1")
    run(
        train,
        *options(f"--arch A --data {photos}"),
        *thin,
        *options(f"--epochs 1 --weights {weights} --freeze-features --out {here / 'run'}"),
    )
    recipe = load_checkpoint(here / "run" / "best.pt").spec.recipe
    assert (
        f"started from {here.name}/A.pt, only fc6-fc8 trained, on centre crops without augmentation"
        in recipe
    )
