"""The notebook of docs/ runs as it stands there."""

import json
from pathlib import Path

import pytest

from tests.support.nets import save_net, thin_net
from vgg_deploy.data.built_in import CLASSES as BUILT_IN_CLASSES

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow
def test_the_notebook_runs_and_has_results(here):
    """Its cells run in order, on nets that are not trained; the stored results are of others."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    for arch in ("A", "D"):
        (here / "runs" / arch).mkdir(parents=True)
        save_net(thin_net(arch, classes=BUILT_IN_CLASSES), here / "runs" / arch / "best.pt")
    notebook = json.loads((DOCS / "notebooks" / "error_against_compute.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    space = {}
    for cell in cells:
        code = "".join(cell["source"]).replace('built_in("val", 300)', 'built_in("val", 24)')
        exec(compile(code, "notebook", "exec"), space)
        assert cell["outputs"] and not any(one["output_type"] == "error" for one in cell["outputs"])
    table = space["table"]
    assert table.gmacs_per_image.is_monotonic_increasing
    scales = 3 + 1  # each Q alone, and all together
    assert len(table) == 2 * scales * (3 * 2 + 1)  # of the four protocols, centre has no flips
    front = space["front"]
    assert front.top1_error_pct.is_monotonic_decreasing
    assert front.top1_error_pct.min() == table.top1_error_pct.min()
    assert (space["wrong"].label != space["wrong"].best).all()
