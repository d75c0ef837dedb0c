"""Training in stages: what starts from what, at which S, planned, interrupted and resumed."""

import json
import signal

import pytest
import torch

from tests.support.nets import save_net, thin_net
from tests.support.options import options
from tests.support.run import run
from tests.support.warm import Warm, until
from train.__main__ import main as train
from train.chain import _differences
from train.recipe.config import RECIPES
from train.recipe.stages import CHAINS, FineTune, config_of, stages_of
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.model import FROM_A

pytestmark = pytest.mark.slow

# Table 3 of the paper, column "train (S)", row by row
TABLE_3 = [
    ("A", (256, 256)), ("A-LRN", (256, 256)), ("B", (256, 256)),
    ("C", (256, 256)), ("C", (384, 384)), ("C", (256, 512)),
    ("D", (256, 256)), ("D", (384, 384)), ("D", (256, 512)),
    ("E", (256, 256)), ("E", (384, 384)), ("E", (256, 512)),
]  # fmt: skip
THIN = options("--width 0.0625 --crop 32 --batch 16 --init he --lr 0.003 --workers 0 --threads 1")
SHORT = [*THIN, "--epochs", "1"]


def configs(chain, **base):
    base = RECIPES["paper"].__class__(**base)
    return {stage.name: config_of(stage, base, FineTune()) for stage in stages_of(chain, "all")}


@pytest.mark.parametrize("chain", ["paper", "glorot"])
def test_the_stages_are_table_3s_rows(chain):
    assert [(config.arch, config.side) for config in configs(chain).values()] == TABLE_3


def test_what_starts_from_what_is_section_3_1s():
    sources = {stage.name: stage.source for stage in CHAINS["paper"]}
    assert sources == {
        "A-256": None, "A-LRN-256": None, "B-256": "A-256",
        "C-256": "A-256", "C-384": "C-256", "C-jitter": "C-384",
        "D-256": "A-256", "D-384": "D-256", "D-jitter": "D-384",
        "E-256": "A-256", "E-384": "E-256", "E-jitter": "E-384",
    }  # fmt: skip
    names = list(sources)
    assert all(
        source is None or names.index(source) < names.index(name)
        for name, source in sources.items()
    )
    assert {stage.name: stage.source for stage in CHAINS["glorot"]} == {
        name: None if source == "A-256" else source for name, source in sources.items()
    }


def test_a_chain_of_an_earlier_version_lacks_later_fields():
    """They are at their defaults, so the chain may go on."""
    chain = {"chain": "paper", "fine_tune": {}, "sources": {"data": "x"}}
    config = {"lr": 0.01, "task": "classify", "box_outputs": "per-class", "box_form": "centre"}
    ours = {**chain, "config": config}
    assert _differences({**chain, "config": {"lr": 0.01}}, ours, moved=False) == []
    other = {**ours, "config": {**config, "box_form": "edges"}}
    assert _differences({**chain, "config": {"lr": 0.1}}, other, False) == ["lr", "box_form"]


def test_a_chain_goes_on_with_another_micro_batch():
    chain = {"chain": "paper", "fine_tune": {}, "sources": {"data": "x"}}
    saved, ours = ({**chain, "config": {"lr": 0.01, "micro_batch": n}} for n in (32, "auto"))
    assert _differences(saved, ours, moved=False) == []


def test_rates_and_lengths():
    """1e-2 and 74 epochs from a draw or from A; then 1e-3 and half as long at another S.

    The last rate is the same.
    """
    for name, config in configs("paper").items():
        continues_training = not name.endswith("256")
        assert (config.lr, config.epochs) == (
            (pytest.approx(1e-3), 37) if continues_training else (1e-2, 74)
        )
        assert config.lr / 10**config.most_drops == pytest.approx(1e-5)
    drops = configs("paper", epochs=9, lr_drops=(6, 8), most_drops=2)
    assert drops["D-256"].lr_drops == (6, 8)
    assert (drops["D-384"].epochs, drops["D-384"].lr_drops) == (5, (4,))
    assert drops["D-384"].most_drops == 1  # the last rate is that of D-256: 1e-2 / 100 = 1e-3 / 10
    stage = next(stage for stage in CHAINS["paper"] if stage.name == "E-jitter")
    given = config_of(stage, RECIPES["paper"], FineTune(epochs=3, lr=0.5))
    assert (given.epochs, given.lr) == (3, 0.5)


@pytest.mark.parametrize(
    ("crop", "sides"), [(96, (110, 165, 219)), (32, (37, 55, 73)), (288, (329, 494, 658))]
)
@pytest.mark.slow
def test_s_goes_with_the_crop(photos, here, crop, sides):
    """256 : 384 : 512 to 224 as the paper's; a crop wider than 256 too."""
    s1, s2, s3 = sides
    output = run(
        train,
        *options(
            f"--arch D --chain paper --plan --data {photos} --width 0.0625 --crop {crop} "
            "--batch 4 --threads 2"
        ),
    )
    for row in (
        f"A-256 │ paper-std draw │ {s1} │ 0.01 │ 74",
        f"D-384 │ D-256 │ {s2} │ 0.001 │ 37",
        f"D-jitter │ D-384 │ [{s1};{s3}] │ 0.001 │ 37",
    ):
        assert row in output
    assert "taken in proportion" in output


def test_a_plan_trains_and_writes_nothing(photos, here):
    output = run(train, "--arch", "B", "--chain", "paper", "--plan", "--data", photos, *SHORT)
    assert (
        "A-256 │ he draw" in output
        and "B-256 │ A-256" in output
        and "│ 6 │" in output
        and output.count("to do") == 2
    )
    assert not any(name in output for name in ("C-256", "D-256", "A-LRN")) and "to go" in output
    assert not list(here.iterdir())


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """The chain of C, every stage an epoch."""
    folder = tmp_path_factory.mktemp("chain") / "C"
    run(train, "--arch", "C", "--chain", "paper", "--data", photos, *SHORT, "--out", folder)
    return folder


def same(one, two):
    torch.testing.assert_close(
        one, two, rtol=0, atol=1e-20
    )  # biases have crept from zero by the rate


@pytest.mark.slow
def test_every_stage_starts_from_what_the_one_before_learnt(trained, photos):
    """Oracle: the files' weights. At an LR near zero best.pt is what a stage started with."""
    assert {p.parent.name for p in trained.glob("*/best.pt")} == {
        "A-256",
        "C-256",
        "C-384",
        "C-jitter",
    }
    still = [
        "--data",
        photos,
        *SHORT,
        *options(f"--weight-decay 0 --lr 1e-30 --out {trained.parent / 'still'}"),
    ]
    run(train, "--arch", "C", "--chain", "paper", *still)
    a, c, c384, jitter = (
        load_checkpoint(trained.parent / "still" / name / "best.pt")
        for name in ("A-256", "C-256", "C-384", "C-jitter")
    )
    for name, tensor in c.weights.items():
        if name.split(".")[0] in FROM_A:
            same(tensor, a.weights[name])
        same(tensor, c384.weights[name])
        same(tensor, jitter.weights[name])
    assert [checkpoint.spec.train_side for checkpoint in (a, c, c384, jitter)] == [
        (37, 37),
        (37, 37),
        (55, 55),
        (37, 73),
    ]
    assert a.spec.preprocessing == jitter.spec.preprocessing
    for stage, start in (("C-256", "A-256"), ("C-384", "C-256"), ("C-jitter", "C-384")):
        sources = json.loads((trained / stage / "config.json").read_text())["sources"]
        assert sources["net_a" if start == "A-256" else "weights"] == str(
            trained / start / "best.pt"
        )


@pytest.mark.slow
def test_finished_stages_are_skipped_and_another_net_adds_its_stages(trained, photos, here):
    before = {p: p.stat().st_mtime_ns for p in trained.glob("*/*.pt")}
    output = run(
        train, "--arch", "B", "--chain", "paper", "--data", photos, *SHORT, "--out", trained
    )
    assert (
        "Stage B-256" in output
        and output.count("Start:") == 1
        and f"fc6, fc7, fc8 from {trained / 'A-256' / 'best.pt'}" in output
    )
    assert {p: p.stat().st_mtime_ns for p in before} == before
    output = run(train, "--resume", trained, "--workers", "0", "--plan")
    assert (
        "A-256" in output
        and "B-256" in output
        and "done" in output
        and "to do" not in output
        and "0:00 to go" in output
    )


def test_another_recipe_is_refused_in_a_chains_folder(trained, photos, here):
    again = ["--arch", "C", "--chain", "paper", "--data", photos, *SHORT, "--out", trained]
    output = run(train, *again, "--lr", "0.002", code=2)
    assert "started with other options (lr)" in output and "another --out" in output
    assert "(fine_tune)" in run(train, *again, "--fine-tune-epochs", "7", code=2)


@pytest.mark.slow
def test_a_stage_whose_start_is_not_trained_to_its_end(photos, here):
    stage = [
        *options(f"--chain paper --data {photos}"),
        *THIN,
        *options(f"--epochs 2 --out {here / 'chain'} --stage"),
    ]
    output = run(train, *stage, "D-384", code=2)
    assert (
        "stage D-384 starts from D-256, not trained to its end (to do); "
        "train that first: --stage D-256" in output
    )
    half = here / "chain" / "A-256"
    run(train, *stage, "A-256")
    (half / "metrics.csv").write_text(
        "\n".join((half / "metrics.csv").read_text().split("\n")[:2]) + "\n"
    )
    output = run(train, *stage, "D-256", code=2)
    assert "starts from A-256, not trained to its end (1 of 2 epochs done)" in output
    assert "it has A-256, A-LRN-256, B-256" in run(train, *stage, "F-256", code=2)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_chain_interrupted_in_its_second_stage_is_resumed(photos, here):
    """By the same command, and by --resume alone."""
    warm = Warm()
    try:
        command = ["--arch", "B", "--chain", "paper", "--data", photos, *THIN, "--epochs", "4"]
        for name, on in (
            ("paper", ["--resume"]),
            ("two", [*command, "--out", here / "runs" / "two"]),
        ):
            folder = here / "runs" / name
            training = warm.train(here, *command, "--out", folder)
            until(lambda folder=folder: (folder / "B-256" / "best.pt").exists())
            training.send(signal.SIGTERM)
            assert training.wait() == 143, training.output()
            assert training.output().endswith(f"resume with: python -m train --resume {folder}")
            kept = (folder / "A-256" / "last.pt").stat().st_mtime_ns
            assert load_checkpoint(folder / "B-256" / "last.pt").training["step"] < 24
            output = run(train, *on, "--workers", "0", "--threads", "1")
            assert (
                "Resuming" in output
                and output.count("Done:") == 1
                and (folder / "A-256" / "last.pt").stat().st_mtime_ns == kept
            )
    finally:
        warm.close()
    one, two = (
        load_checkpoint(here / "runs" / name / "B-256" / "last.pt") for name in ("paper", "two")
    )
    assert one.training["step"] == two.training["step"] == 24
    assert all(torch.equal(one.weights[name], tensor) for name, tensor in two.weights.items())


def test_options_that_a_chain_or_resume_has_no_use_for(photos, here):
    net = save_net(thin_net("A"), here / "A.pt")
    assert "belong to a chain" in run(train, "--arch", "D", "--fine-tune-epochs", "3", code=2)
    assert "belong to a chain" in run(train, "--arch", "D", "--plan", code=2)
    assert "leave --side out" in run(train, "--chain", "paper", "--side", "64", code=2)
    assert "leave --weights, --net-a" in run(train, "--chain", "paper", "--net-a", net, code=2)
    assert "leave --init out" in run(train, "--chain", "glorot", "--init", "he", code=2)
    for option in (
        ["--arch", "B"],
        ["--chain", "paper"],
        ["--fine-tune-lr", "0.1"],
        ["--freeze-features"],
        ["--net-a", net],
        ["--seed", "1"],
    ):
        assert f"leave {option[0]} out" in run(train, "--resume", *option, code=2)
    run(train, "--arch", "A", "--data", photos, *SHORT, "--side", "32", "--out", here / "run")
    assert "a run of one net" in run(train, "--resume", here / "run", "--plan", code=2)
    plan = ["--chain", "paper", "--data", photos, *THIN, "--plan"]
    output = run(train, *plan, "--fine-tune-lr", "0", code=2)
    assert "'--fine-tune-lr': 0.0 is too small, expected a number above 0" in output
    assert "do not fill one batch of 256" in run(
        train, "--chain", "paper", "--data", photos, "--plan", code=2
    )
