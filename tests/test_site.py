"""The documentation site, and the workflows."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"


class Links(HTMLParser):
    """The links, images and anchors of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id") or "")
        if tag == "a" and "href" in found or tag == "img":
            self.targets.append(found.get("href") or found.get("src") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site):
    pages = {path: Links(path.read_text()) for path in site.rglob("*.html") if path.stem != "404"}
    assert len(pages) > 20
    broken = []
    for path, links in pages.items():
        for target in links.targets:
            if re.match(r"[a-z]+:|//", target):
                continue
            name, _, anchor = unquote(target).partition("#")
            place = (path.parent / name).resolve() if name else path
            if place.is_dir():
                place /= "index.html"
            on_page = pages[place].ids if place in pages else {anchor}
            if not place.exists() or anchor and anchor not in on_page:
                broken.append(f"{path.relative_to(site)}: {target}")
    assert broken == []


@pytest.mark.slow
def test_results_and_modules_are_pages_of_the_site(site):
    assert (site / "benchmarks" / "results" / "peers.html").exists()
    results = (site / "results.html").read_text()
    assert 'href="benchmarks/results/peers.html"' in results
    modules = (site / "api" / "nets.html").read_text()
    assert "vgg_deploy.net.model.VGG" in modules and "test_sides" in modules
    outside = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//[^"]+', results)
    assert outside == []  # no request to another server


def test_workflows_are_valid_yaml_with_steps():
    for path in WORKFLOWS.glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            assert "steps" in job and "timeout-minutes" in job, path


def parity() -> dict:
    return yaml.safe_load((WORKFLOWS / "parity.yml").read_text())


def test_inputs_of_the_workflow_are_those_that_it_uses_and_documents():
    text = (WORKFLOWS / "parity.yml").read_text()
    inputs = parity()[True]["workflow_call"]["inputs"]  # YAML reads "on" as true
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(inputs)
    page = (ROOT / "docs" / "ci.md").read_text()
    for name, described in inputs.items():
        assert f"`{name}`" in page, name
        default = str(described.get("default", ""))
        assert default in page


def test_its_scripts_hold_no_expression():
    """What a caller passes reaches a script as a variable only, never as its text."""
    for step in parity()["jobs"]["parity"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_a_cache_key_names_images_versions_model_and_run():
    (cache,) = (s for s in parity()["jobs"]["parity"]["steps"] if "cache@" in s.get("uses", ""))
    key = cache["with"]["key"]
    assert key.endswith("-${{ github.run_id }}")  # a key is never written twice
    for restored in cache["with"]["restore-keys"].split("\n"):
        assert key.startswith(restored)
    for part in ("inputs.data", "versions.txt", "inputs.model"):
        assert part in key


def test_checks_that_did_not_pass_become_annotations(tmp_path):
    """The step's own script, on a verdict with characters that end an annotation."""
    (step,) = (s for s in parity()["jobs"]["parity"]["steps"] if s.get("name") == "Annotate")
    if subprocess.run(["bash", "-c", "command -v jq"], capture_output=True).returncode:
        pytest.skip("jq is not installed; GitHub's machines have it")
    checks = [
        ("A.onnx", "agreement", "dense, Q 256", "pass", "100 %"),
        ("a,b:c.onnx", "top-1 drop", "dense, Q 256", "fail", "loses 3 %\nsecond line"),
        ("B.onnx", "agreement", "", "undecided", "too few"),
    ]
    names = ("model", "check", "rows", "verdict", "message")
    (tmp_path / "results").mkdir()
    verdict = {"checks": [dict(zip(names, check, strict=True)) for check in checks]}
    (tmp_path / "results" / "gate.json").write_text(json.dumps(verdict))
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "::error title=a%2Cb%3Ac.onnx%2C top-1 drop::dense, Q 256 loses 3 %25%0Asecond line",
        "::warning title=B.onnx%2C agreement:: too few",
    ]
    (tmp_path / "results" / "gate.json").write_text('{"verdict": "error"}')
    again = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert again.stdout == ""


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(there)
