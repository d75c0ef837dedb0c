"""--summary: the verdict and tables where a CI server shows them."""

import pytest

from bench.cli import main as vgg_bench
from bench.report.sections import MOST_BYTES, Section, append_summary
from bench.report.tables import Texts
from tests.support.nets import save_net, thin_net
from tests.support.run import run


def bench(here, photos, *more, code=0):
    paths = [save_net(thin_net("A", seed=seed), here / f"A{seed}.pt") for seed in (0, 1)]
    args = ["--data", photos, "--scales", "48", "--measure", "accuracy", "--threads", 1]
    return run(vgg_bench, *paths, *args, *more, code=code)


def test_the_verdict_and_all_tables_are_appended(here, photos):
    file = here / "summary.md"
    file.write_text("Earlier steps\n")
    bench(here, photos, "--min-agreement", 99, "--summary", file, code=1)
    text = file.read_text()
    assert text.startswith("Earlier steps\n# vgg-bench\n") and "**Gate: fail." in text
    report = (here / "results" / "report.md").read_text()
    tables = report[: report.index("## Environment")]
    assert text.endswith(tables) and "| model |" in text


def test_a_file_that_cannot_be_written_is_one_sentence(here, photos):
    output = bench(here, photos, "--summary", here / "none" / "summary.md", code=2)
    assert "the summary cannot be written (No such file or directory); name another" in output
    assert (here / "results" / "report.md").exists()


@pytest.mark.parametrize("rows", [10, 100_000])
def test_a_long_summary_ends_where_the_server_would_refuse_it(tmp_path, rows):
    texts = Texts("T", ["model"], [["a file with a long name.onnx"]] * rows)
    append_summary([Section(texts, "")], None, {"run_id": "1"}, tmp_path / "s.md")
    text = (tmp_path / "s.md").read_text()
    assert len(text) <= MOST_BYTES + 100 < 2**20
    assert text.endswith("The rest is in report.md.\n") == (rows > 10_000)
