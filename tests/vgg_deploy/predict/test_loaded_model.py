"""Models from Python: the forms of images and classes, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.written import written_onnx
from vgg_deploy.errors import InputError
from vgg_deploy.net.input_convention import StatedInput
from vgg_deploy.predict.model import load

NAMES = ("gas pump", "French horn", "church", "tench")


@pytest.fixture
def model(tmp_path):
    return load(save_net(thin_net("A"), tmp_path / "A.pt"), threads=1)


@pytest.fixture
def photo(tmp_path):
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_an_image_may_have_many_forms(model, photo):
    """The oracle: the net itself, on pixels that Pillow rescaled."""
    image = Image.open(photo).convert("RGB")
    pixels = np.asarray(image)
    forms = [
        photo,
        str(photo),
        image,
        pixels,
        pixels.transpose(2, 0, 1),
        torch.from_numpy(pixels.copy()),
        torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
    ]
    small = np.asarray(image.resize((45, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    mean = torch.tensor(model.spec.preprocessing.mean).view(3, 1, 1)
    with torch.inference_mode():
        net = thin_net("A")
        expected = net((torch.from_numpy(small.copy()) - mean)[None]).mean((2, 3)).softmax(1)
    for form in forms:
        found = model.predict(form, side=32, flips=False)
        assert len(found) == 1
        np.testing.assert_allclose(found.posterior, expected, atol=1e-6)
    several = model.predict(forms, side=32, flips=False)
    assert several.images == (str(photo), str(photo), "2", "3", "4", "5", "6")
    batch = model.predict(np.stack([pixels] * 3), side=32, flips=False)
    np.testing.assert_allclose(batch.posterior, several.posterior[:3], atol=1e-6)


def test_a_folder_stands_for_the_images_below_it(model, photo, tmp_path):
    inner = tmp_path / "photos" / "inner"
    inner.mkdir(parents=True)
    Image.open(photo).rotate(90).save(inner / "b.png")
    Image.open(photo).save(tmp_path / "photos" / "a.png")
    (inner / "notes.txt").write_text("no image")
    found = model.predict(tmp_path / "photos", side=32)
    assert [one.image for one in found] == [f"{tmp_path}/photos/a.png", f"{inner}/b.png"]
    alone = [model.predict(path, side=32).posterior[0] for path in found.images]
    np.testing.assert_allclose(found.posterior, alone, atol=1e-6)  # batches of another size round
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no images there"):
        model.predict(tmp_path / "empty")


def test_predictions_rank_the_classes_by_name(model, photo):
    found = model.predict([photo, photo], top=3)
    first = found[0]
    order = np.argsort(-found.posterior[0])
    assert [one.name for one in first.best] == [CLASSES[c] for c in order[:3]]
    assert [one.rank for one in first.best] == [1, 2, 3]
    assert [one.posterior for one in first.best] == found.posterior[0][order[:3]].tolist()
    frame = found.to_frame()
    assert list(frame.columns) == ["image", "rank", "class", "name", "posterior"]
    assert len(frame) == 6 and frame["image"].eq(str(photo)).all()
    assert str(first).startswith(f"{photo}\n  ")
    assert len(model.predict(photo, top=99)[0].best) == 4


def test_classes_come_from_a_list_or_a_file(tmp_path, photo):
    net = thin_net("A", classes=("0", "1", "2", "3"))
    path = save_net(net, tmp_path / "numbered.pt")
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    for classes in (list(NAMES), tmp_path / "names.txt", str(tmp_path / "names.txt")):
        model = load(path, classes=classes, threads=1)
        assert model.classes == NAMES
        assert {one.name for one in model.predict(photo)[0].best} == set(NAMES)
    with pytest.raises(InputError, match="scores 4 classes, the class list has 2"):
        load(path, classes=["a", "b"])


def test_exported_files_predict_the_same(tmp_path, model, photo):
    exported = load(written_onnx(tmp_path / "A.onnx", thin_net("A")), threads=1)
    assert exported.runtime.name == "onnxruntime" and "onnxruntime fp32 on cpu" in repr(exported)
    found, expected = exported.predict(photo), model.predict(photo)
    np.testing.assert_allclose(found.posterior, expected.posterior, atol=1e-6)
    with pytest.raises(
        InputError, match="gives posterior, score_map and no pool5; open the weights in PyTorch"
    ):
        exported.features(np.zeros((1, 3, 32, 32), np.uint8))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 3, 32, 32), np.float32), "images are float32; give uint8 RGB of 0-255"),
        (np.zeros((1, 32, 32, 3), np.uint8), r"the shape \(1, 32, 32, 3\); give uint8 RGB"),
        (np.zeros((3, 32, 32), np.uint8), r"the shape \(3, 32, 32\)"),
        (np.zeros((0, 3, 32, 32), np.uint8), r"the shape \(0, 3, 32, 32\)"),
        (np.zeros((1, 3, 31, 40), np.uint8), "31 x 40, and the net needs sides of 32 or more"),
        (torch.zeros((1, 3, 32, 32)), "images are float32"),
        ([[1]], "images are a list"),
    ],
)
def test_scores_take_nothing_but_pixels(images, message, model):
    with pytest.raises(InputError, match=message):
        model.scores(images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images to classify"),
        (7, "int is no image"),
        ([None], "image 0 is a NoneType"),
        (np.zeros((50, 50, 3)), "image 0 is float64"),
        (np.zeros((50, 50), np.uint8), r"image 0 has the shape \(50, 50\)"),
        ("nowhere.jpg", "nowhere.jpg: cannot be read"),
    ],
)
def test_what_is_no_image_is_refused(images, message, model):
    with pytest.raises(InputError, match=message):
        model.predict(images)


def test_settings_that_do_not_fit_the_file_are_refused(tmp_path, photo, model):
    exported = written_onnx(tmp_path / "A.onnx", thin_net("A"))
    with pytest.raises(InputError, match="has a precision of its own; state none"):
        load(exported, precision="fp16")
    with pytest.raises(InputError, match="precision 'int4' is unknown"):
        load(exported, precision="int4")
    with pytest.raises(InputError, match="knows its own input"):
        load(exported, stated=StatedInput(channel_order="BGR"))
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "nothing.pt")
    with pytest.raises(InputError, match="top 0 lists no class"):
        model.predict(photo, top=0)
