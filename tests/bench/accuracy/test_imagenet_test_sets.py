"""ImageNet-V2, -A, -R, -Sketch and ReaL: opened as downloaded, scored as each defines it.

The lists of classes are timm's. The scores come from PyTorch, and errors are counted by naive
loops, as the evaluation scripts of the test sets do.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm.data
import torch
from PIL import Image

from bench.cli import main as vgg_bench
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from vgg_deploy.data.imagenet import benchmark_of
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.imagenet_classes import imagenet_wnids

INFO = Path(timm.data.__file__).parent / "_info"
MEAN = torch.tensor((120.5, 113.25, 99.75)).view(3, 1, 1)  # of thin_spec


def listed(name: str) -> list[str]:
    return (INFO / name).read_text().split()


def draw(path: Path, seed: int) -> None:
    """A small image of noise in coarse blocks, so that nets differ about it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(blocks).resize((44, 36), Image.Resampling.BICUBIC).save(path, quality=92)


def folders(root: Path, names: list[str], suffix: str = "jpg") -> Path:
    """One image per class folder."""
    for number, name in enumerate(names):
        draw(root / name / f"{number}.{suffix}", number)
    return root


@pytest.fixture(scope="module")
def net():
    """1,000 classes, in an order of its own; large scores, so that classes are told apart."""
    order = np.random.default_rng(3).permutation(1000)
    made = thin_net("A", classes=tuple(listed("imagenet_synsets.txt")[i] for i in order))
    with torch.no_grad():
        made.fc8.weight *= 6
    return made


def posterior_of(net, path: Path) -> dict[str, float]:
    """Posterior of every class at Q 32, without flips: Pillow and PyTorch."""
    image = Image.open(path).convert("RGB")
    w, h = image.size
    size = tuple(32 if v == min(w, h) else int(32 * v / min(w, h) + 0.5) for v in (w, h))
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    with torch.inference_mode():
        scores = net((torch.from_numpy(pixels.copy()).float() - MEAN)[None]).mean((2, 3))[0]
    return dict(zip(net.spec.classes, scores.softmax(0).tolist(), strict=True))


def counted(net, truth: dict[Path, set[str]], among: list[str], k: int) -> float:
    """Error in per cent: no right class among the best k of the given classes."""
    wrong = 0
    for path, right in truth.items():
        posterior = posterior_of(net, path)
        best = sorted(among, key=lambda wnid: -posterior[wnid])[:k]
        if not any(wnid in right for wnid in best):
            wrong += 1
    return 100 * wrong / len(truth)


def bench(here: Path, model: Path, data: Path, *more, code=0) -> str:
    options = ["--data", data, "--scales", "32", "--no-flips", "--measure", "accuracy"]
    return run(
        vgg_bench, model, *options, "--threads", "1", "--out", here / "out", *more, code=code
    )


def row_of(here: Path) -> pd.Series:
    (row,) = pd.read_csv(here / "out" / "accuracy.csv").to_dict("records")
    return row


def test_the_classes_are_those_of_other_projects():
    assert list(imagenet_wnids()) == listed("imagenet_synsets.txt")
    for mark in ("a", "r"):
        subset = listed(f"imagenet_{mark}_synsets.txt")
        found = benchmark_of(subset)
        assert found.name == f"ImageNet-{mark.upper()}" and sorted(found.among) == sorted(subset)
        assert benchmark_of(subset[1:]) is None
    indices = [int(line) for line in listed("imagenet_r_indices.txt")]
    assert [imagenet_wnids()[i] for i in indices] == listed("imagenet_r_synsets.txt")


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["a", pytest.param("r", marks=pytest.mark.nightly)])
def test_imagenet_a_and_r_choose_among_their_200_classes(net, here, mark):
    subset = listed(f"imagenet_{mark}_synsets.txt")
    root = folders(here / f"imagenet-{mark}", subset)
    for seed in range(300, 400):  # images that are right if only the subset counts
        draw(here / "one.jpg", seed)
        posterior = posterior_of(net, here / "one.jpg")
        (here / "one.jpg").rename(root / max(subset, key=posterior.get) / f"{seed}.jpg")
    (root / "README.txt").write_text("as in the download")
    output = bench(here, save_net(net, here / "net.pt"), root)
    name = f"ImageNet-{mark.upper()}"
    assert f"300 images of {name} (best of its 200 classes)" in output
    assert f"{name} (best of its 200 classes)" in (here / "out" / "report.md").read_text()
    row, truth = row_of(here), {path: {path.parent.name} for path in root.glob("*/*.jpg")}
    assert (row["images"], row["classes"]) == (300, 200)
    for k in (1, 5):
        expected = counted(net, truth, subset, k)
        assert row[f"top{k}_error_pct"] == pytest.approx(expected) and expected < 67
        assert counted(net, truth, list(net.spec.classes), k) > expected
    # confidence is the softmax over the 200 scores, as in the authors' scripts
    bins: dict[int, list[tuple[float, bool]]] = {}
    for path in truth:
        posterior = posterior_of(net, path)
        best = max(subset, key=posterior.get)
        confidence = posterior[best] / sum(posterior[wnid] for wnid in subset)
        bins.setdefault(int(np.ceil(confidence * 15)), []).append(
            (confidence, best == path.parent.name)
        )
    gaps = [abs(sum(c for c, _ in one) - sum(r for _, r in one)) for one in bins.values()]
    assert row["ece_pct"] == pytest.approx(100 * sum(gaps) / 300, abs=0.05)


@pytest.mark.slow
def test_a_net_that_names_no_classes_has_those_of_imagenet_in_sorted_order(net, here):
    """As torchvision's files; the oracle is the same net with names."""
    subset = listed("imagenet_r_synsets.txt")
    root = folders(here / "imagenet-r", subset)
    plain = thin_net("A", classes=tuple(str(i) for i in range(1000)))
    output = bench(here, save_net(plain, here / "plain.pt"), root)
    assert "names no classes: taken in the order n01440764, n01443537, n01484850" in output
    numbered = row_of(here)
    named = thin_net("A", classes=tuple(listed("imagenet_synsets.txt")))
    bench(here, save_net(named, here / "named.pt"), root)
    assert row_of(here)["top1_error_pct"] == numbered["top1_error_pct"]


@pytest.mark.slow
def test_imagenet_v2_counts_its_folders_by_the_sorted_wnids(net, here):
    root = folders(
        here / "imagenetv2-matched-frequency-format-val", [str(i) for i in range(1000)], "jpeg"
    )
    dataset = open_dataset(root, "val")
    wnid_of = listed("imagenet_synsets.txt")
    for file, label in zip(dataset.files, dataset.labels, strict=True):
        assert dataset.classes[label] == wnid_of[int(file.split("/")[0])]
    output = bench(here, save_net(net, here / "net.pt"), root, "--images", "100")
    assert "100 images of ImageNet-V2" in output
    some = [root / file for file in dataset.subset(100).files]
    truth = {path: {wnid_of[int(path.parent.name)]} for path in some}
    expected = counted(net, truth, list(net.spec.classes), 5)
    assert row_of(here)["top5_error_pct"] == pytest.approx(expected)
    assert row_of(here)["classes"] == 1000


def test_other_folders_named_by_numbers_are_no_imagenet_v2(here):
    root = folders(here / "digits", [str(i) for i in range(1000)])
    assert open_dataset(root, "val").benchmark is None


def test_sketch_has_all_classes(here):
    root = folders(here / "sketch", listed("imagenet_synsets.txt"), "JPEG")
    dataset = open_dataset(root, "val")
    assert (
        dataset.classes == imagenet_wnids() and dataset.benchmark is None and len(dataset) == 1000
    )


# --- ReaL ---


def real_set(root: Path, net) -> dict[Path, set[str]]:
    """real.json beside val/, some of whose images have no label, and what is right."""
    wnid_of = listed("imagenet_synsets.txt")
    labels: list[list[int]] = [[] for _ in range(50_000)]
    truth = {}
    for number in range(1, 41):
        path = root / "val" / f"ILSVRC2012_val_{number * 1000:08d}.JPEG"
        draw(path, number)
        posterior = posterior_of(net, path)
        ranked = [wnid_of.index(wnid) for wnid in sorted(posterior, key=posterior.get)[::-1]]
        # without labels; the best second in the list; the fourth best; far from right
        right = [[], [ranked[500], ranked[0]], [ranked[900], ranked[3]], ranked[600:609]]
        labels[number * 1000 - 1] = right[number % 4]
        if right[number % 4]:
            truth[path] = {wnid_of[label] for label in right[number % 4]}
    (root / "real.json").write_text(json.dumps(labels))
    return truth


def test_real_labels_accept_any_label_and_leave_out_images_without(net, here):
    truth = real_set(here / "imagenet", net)
    data = here / "imagenet" / "real.json"
    output = bench(here, save_net(net, here / "net.pt"), data)
    assert "30 images of ImageNet ReaL (right if the best class is one of an image" in output
    row = row_of(here)
    assert row["images"] == len(truth) == 30
    for k in (1, 5):
        expected = counted(net, truth, list(net.spec.classes), k)
        assert row[f"top{k}_error_pct"] == pytest.approx(expected)
    assert row["top1_error_pct"] == pytest.approx(200 / 3)
    assert row["top5_error_pct"] == pytest.approx(100 / 3)
    confused = pd.read_csv(here / "out" / "confusions.csv")
    assert confused.images.sum() == 20  # an image that is right by its second label is not there


def test_real_labels_are_read_from_timms_copy(here):
    """Oracle: timm's evaluator, on one-hot outputs."""
    root = here / "imagenet"
    labels = json.loads((INFO / "imagenet_real_labels.json").read_text())
    for number in (1, 2, 3, 100, 50_000):
        draw(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    (root / "real.json").write_bytes((INFO / "imagenet_real_labels.json").read_bytes())
    dataset = open_dataset(root / "real.json", "val")
    numbers = [n for n in (1, 2, 3, 100, 50_000) if labels[n - 1]]
    assert [int(file[15:23]) for file in dataset.files] == numbers and len(numbers) < 5
    for row, label, number in zip(dataset.right, dataset.labels, numbers, strict=True):
        assert [value for value in row if value >= 0] == labels[number - 1]
        assert label == labels[number - 1][0]
    part = dataset.subset(2)
    assert part.right.tolist() == [dataset.right[i].tolist() for i in (0, len(numbers) // 2)]


def test_real_labels_find_the_images_in_class_folders_and_in_kaggles(here):
    (here / "real.json").write_text(json.dumps([[7]] * 50_000))
    draw(here / "val" / "n01440764" / "ILSVRC2012_val_00000009.JPEG", 1)
    assert list(open_dataset(here / "real.json", "val").files) == [
        "n01440764/ILSVRC2012_val_00000009.JPEG"
    ]
    other = here / "kaggle"
    draw(other / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000010.JPEG", 1)
    (other / "real.json").write_bytes((here / "real.json").read_bytes())
    assert len(open_dataset(other / "real.json", "val")) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([[1]] * 10, "has 10 entries, expected 50,000 lists"),
        ({"a": 1}, "has no list, expected 50,000 lists"),
        ([[1]] * 49_999 + [[1000]], "entry 50000: [1000] is no list of different class numbers"),
        ([[1, 1]] + [[1]] * 49_999, "entry 1: [1, 1] is no list"),
        ([[True]] + [[1]] * 49_999, "entry 1: [True] is no list"),
        ([[]] * 50_000, "none of the 1 images"),
    ],
)
def test_other_files_are_no_real_labels(here, content, says):
    draw(here / "val" / "ILSVRC2012_val_00000001.JPEG", 1)
    (here / "real.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        open_dataset(here / "real.json", "val")
    assert says in error.value.message


def test_images_that_real_labels_do_not_know_are_refused(here):
    (here / "real.json").write_text(json.dumps([[7]] * 50_000))
    with pytest.raises(InputError, match="has no images of ILSVRC's validation set"):
        open_dataset(here / "real.json", "val")
    draw(here / "val" / "ILSVRC2012_val_00050001.JPEG", 1)
    with pytest.raises(InputError, match="is not named as a validation image"):
        open_dataset(here / "real.json", "val")
    (here / "val" / "ILSVRC2012_val_00050001.JPEG").unlink()
    draw(here / "val" / "a" / "ILSVRC2012_val_00000001.JPEG", 1)
    draw(here / "val" / "b" / "ILSVRC2012_val_00000001.JPEG", 1)
    with pytest.raises(InputError, match="are the same image"):
        open_dataset(here / "real.json", "val")
    with pytest.raises(InputError, match="holds labels of validation images only"):
        open_dataset(here / "real.json", "train")
