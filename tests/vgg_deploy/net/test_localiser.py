"""The record and the net of a localiser; classifiers' records stay as they were."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG
from vgg_deploy.net.open_net import open_localiser, open_net
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.runtimes import open_runtime

SPEC = NetSpec("A", ("cat", "dog", "emu"), width=1 / 64, crop=64, train_side=(64, 64))


def saved(tmp_path, spec):
    path = tmp_path / "net.pt"
    save_checkpoint(path, Checkpoint(spec, VGG(spec).state_dict()))
    return path


@pytest.mark.parametrize(("boxes", "channels"), [("", 3), ("shared", 4), ("per-class", 12)])
def test_the_last_layer_has_a_channel_for_each_number(boxes, channels):
    net = VGG(replace(SPEC, boxes=boxes))
    assert net.spec.outputs == channels
    assert net(torch.zeros(2, 3, 64, 96)).shape == (2, channels, 1, 2)


def test_a_classifiers_record_has_no_fields_of_boxes():
    """So that earlier versions read it, which refuse unknown fields."""
    assert not {"boxes", "box_form"} & json.loads(SPEC.to_json()).keys()
    assert NetSpec.from_json(SPEC.to_json(), "x") == SPEC


@pytest.mark.parametrize("form", ["centre", "edges"])
def test_a_localisers_record_comes_back(form):
    spec = replace(SPEC, boxes="shared", box_form=form)
    assert NetSpec.from_json(spec.to_json(), "x") == spec


@pytest.mark.parametrize(
    "fields", [{"boxes": "both"}, {"boxes": 1}, {"boxes": "shared", "box_form": "polar"}]
)
def test_unknown_boxes_are_refused(fields):
    record = json.loads(SPEC.to_json()) | fields
    with pytest.raises(InputError, match="^x: box"):
        NetSpec.from_json(json.dumps(record), "x")


def test_a_localiser_where_scores_are_wanted_gets_one_sentence(tmp_path):
    path = saved(tmp_path, replace(SPEC, boxes="per-class"))
    runtime = open_runtime(path)
    assert runtime.outputs[0] == "boxes" and "posterior" not in runtime.outputs
    for opened in (open_net, lambda path: runtime(np.zeros((1, 3, 64, 64), np.uint8))):
        with pytest.raises(InputError, match="is a localiser, which states boxes and scores no"):
            opened(path)
    assert open_localiser(path).spec.boxes == "per-class"


def test_a_classifier_where_boxes_are_wanted_gets_one_sentence(tmp_path):
    path = saved(tmp_path, SPEC)
    with pytest.raises(InputError, match="is a classifier, which scores classes and states no"):
        open_localiser(path)
    torch.save({"conv1_1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="is no checkpoint of a localiser"):
        open_localiser(tmp_path / "other.pth")
