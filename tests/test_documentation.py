"""Every code block of README.md and docs/ is executed, or parsed where a comment says why not.

A block says by its language what it is. ```bash blocks are parsed line by line by each command's
own parser, and a comment above says whether they also run in a folder with small stand-ins:
`<!-- run -->`, or `<!-- not run: reason -->`. ```python blocks run, unless such a comment says why
they cannot.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from export.release import ExportOptions, export_onnx
from tests.support.documentation import LANGUAGES, ROOT, Block, blocks, commands, lines_of, parse
from tests.support.nets import CLASSES, photo_of, save_net, thin_net
from vgg_deploy.net.foreign_weights import read_foreign

PLACES = {"/data/imagenet": "photos", "/data/shards": "shards"}  # and their stand-ins
NOTE = re.compile(r"run|run, exit (\d)( or \d)*|not run: .{8,}")


def torchvision_layout(net) -> dict[str, torch.Tensor]:
    """A state dict with torchvision's names."""
    sequence, at = {}, 0
    previous = "1"
    for name in dict.fromkeys(key.rpartition(".")[0] for key in net.state_dict()):
        if name.startswith("conv"):
            stage = name[4]
            at += stage != previous  # a pooling layer
            previous = stage
            sequence[name] = f"features.{at}"
            at += 2  # and its ReLU
    sequence |= {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    found = {}
    for key, tensor in net.state_dict().items():
        layer, _, kind = key.rpartition(".")
        flat = tensor.flatten(1) if layer.startswith("fc") and kind == "weight" else tensor
        found[f"{sequence[layer]}.{kind}"] = flat
    return found


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder with the files that the pages name: thin nets, and a few photos per class."""
    folder = tmp_path_factory.mktemp("documentation")
    rng = np.random.default_rng(7)
    for split, count in (("train", 8), ("val", 5)):
        for name in CLASSES:
            place = folder / "photos" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                photo_of(name, rng).save(place / f"{i:03d}.jpeg", quality=90)
    Image.new("RGB", (90, 70), "brown").save(folder / "photos" / "dog.jpg")
    net = thin_net("D", crop=64, width=1 / 32)
    torch.save(torchvision_layout(net), folder / "my_vgg16.pth")
    for name in ("A.pt", "D.pt", "E.pt", "runs/D/best.pt", "models/best.pt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_net(thin_net("E" if name == "E.pt" else "D", crop=64, width=1 / 32), folder / name)
    shutil.copy(folder / "my_vgg16.pth", folder / "vgg16-397923af.pth")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    options = ExportOptions(("fp32",))
    for source, place in (("D.pt", "exported"), ("A.pt", ".")):
        export_onnx(folder / source, folder / place, options, None, 1, lambda text: None)
    (folder / "D.fp32.onnx").rename(folder / "A.fp32.onnx")  # A.pt is the first model of a page
    (folder / "D.fp32.json").unlink()
    shutil.copy(folder / "A.fp32.onnx", folder / "A.int8-cpu.onnx")
    return folder


@pytest.fixture
def in_scratch(scratch, monkeypatch):
    monkeypatch.chdir(scratch)
    return scratch


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder with the commands of pyproject.toml, of this tree, and with this Python."""
    folder = tmp_path_factory.mktemp("bin")
    for name, module in commands().items():
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import {module} as m; '
                           f'import sys; sys.argv[0] = \'{name}\'; m.main()" "$@"\n')  # fmt: skip
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)
    return folder


def test_the_stand_in_has_the_layout_of_torchvision(scratch):
    foreign = read_foreign(scratch / "my_vgg16.pth")
    assert (foreign.arch, foreign.class_count, foreign.crop) == ("D", len(CLASSES), 64)


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_a_block_says_what_it_is(block: Block):
    assert block.language in LANGUAGES, f"{block}: name a language: {', '.join(LANGUAGES)}"
    assert not block.note or NOTE.fullmatch(block.note), f"{block}: {block.note}"
    if block.language == "bash":
        assert block.note, f"{block}: say <!-- run --> or <!-- not run: reason --> above it"
    if block.language == "text":
        ours = [line for line in lines_of(block.text) if line.split()[0] in commands()]
        assert not ours, f"{block}: {ours[0]} is a command; call the block bash"


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_commands_are_understood_by_their_own_parsers(block: Block, in_scratch):
    for line in lines_of(block.text):
        parse(line)


def test_a_wrong_option_is_found(in_scratch):
    import click

    with pytest.raises(click.ClickException, match="No such option"):
        parse("vgg-bench A.pt --max-top1-dorp 0.5")
    with pytest.raises(click.ClickException, match="not"):
        parse("python -m train --arch Z")


LONG = "docs/deploy-a-torchvision-vgg.md"  # whose commands export a net of full width


def to_run(language: str) -> list:
    """Blocks of commands; those of long pages run at night."""
    return [
        pytest.param(block, marks=pytest.mark.nightly if str(block).startswith(LONG) else ())
        for block in blocks(language)
        if block.note.startswith("run")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("block", to_run("bash"), ids=str)
def test_commands_run(block: Block, in_scratch, programs):
    """In the order of the page, so that a block may use what an earlier one wrote."""
    text = block.text
    for place, stand_in in PLACES.items():
        text = text.replace(place, stand_in)
    allowed = [int(code) for code in re.findall(r"\d", block.note)] or [0]
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-eu", "-c", text], capture_output=True, text=True, env=environment
    )
    assert done.returncode in allowed, f"{block}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block):
    compile(block.text, str(block), "exec")


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [b for b in blocks("python") if not b.note.startswith("not run")], ids=str
)
def test_python_runs(block: Block, in_scratch):
    """With the net and the images that the page speaks of as `model` and `images`."""
    given = {"model": thin_net("D", crop=64, width=1 / 32)}
    given["images"] = np.zeros((2, 3, 64, 80), np.uint8)
    saved = shutil.copy("my_vgg16.pth", "kept.pth")
    try:
        exec(compile(block.text, str(block), "exec"), {"__name__": "page", **given})
    finally:
        shutil.copy(saved, "my_vgg16.pth")


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_workflows_are_yaml_and_their_commands_parse(block: Block, in_scratch):
    content = yaml.safe_load(block.text)
    assert isinstance(content, dict)
    for job in content.get("jobs", {}).values():
        for step in job.get("steps", []):
            for line in lines_of(step.get("run", "")):
                if line.split()[0] in commands() and "$" not in line:
                    parse(line)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block):
    json.loads(block.text)
