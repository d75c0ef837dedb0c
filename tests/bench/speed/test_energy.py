"""Joules by the machine's counters: folders as Linux writes them, with known numbers."""

import math
import os
from dataclasses import replace

import pytest

from bench.report.table_texts import latency_texts
from bench.speed.energy import CPU, Reading, counters, joules
from bench.speed.latency import measure_latency
from tests.bench.speed.test_latency import DESCRIBED, FakeRuntime


def zone(folder, name, energy, most=262_143_328_850, label="package-0"):
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "name").write_text(f"{label}\n")
    (place / "energy_uj").write_text(f"{energy}\n")
    (place / "max_energy_range_uj").write_text(f"{most}\n")
    return place


def test_packages_are_added_and_their_parts_are_not(tmp_path):
    zones = [zone(tmp_path, "intel-rapl:0", 5_000_000), zone(tmp_path, "intel-rapl:1", 0)]
    (zones[1] / "name").write_text("package-1\n")
    part = zone(tmp_path, "intel-rapl:0:0", 1, label="core")
    mmio = zone(tmp_path, "intel-rapl-mmio:0", 1)  # the same package once more
    found = counters("cpu", tmp_path)
    before = found.read()
    for place, used in zip((*zones, part, mmio), (2_500_000, 1_000_000, 9, 9), strict=True):
        text = (place / "energy_uj").read_text()
        (place / "energy_uj").write_text(str(int(text) + used))
    assert joules(before, found.read()) == pytest.approx(3.5)
    assert found.of == CPU and found.why_not == ""


def test_a_counter_that_began_again(tmp_path):
    place = zone(tmp_path, "intel-rapl:0", 9_000_000, most=10_000_000)
    found = counters("cpu", tmp_path)
    before = found.read()
    (place / "energy_uj").write_text("500000")
    assert joules(before, found.read()) == pytest.approx(1.5)


def test_a_counter_that_nobody_may_read_says_so(tmp_path):
    place = zone(tmp_path, "intel-rapl:0", 1)
    (place / "energy_uj").unlink()
    os.mkfifo(place / "energy_uj")  # reading it would wait for ever
    found = counters("cpu", tmp_path)
    assert not found.found and str(place / "energy_uj") in found.why_not
    assert math.isnan(joules(found.read(), found.read()))


@pytest.mark.parametrize("text", ["", "-5", "1e9", "x" * 9000])
def test_a_counter_without_a_number(tmp_path, text):
    place = zone(tmp_path, "intel-rapl:0", 1)
    (place / "energy_uj").write_text(text)
    found = counters("cpu", tmp_path)
    assert not found.found and "cannot be read" in found.why_not


def test_no_counter_is_no_energy(tmp_path):
    found = counters("cpu", tmp_path / "none")
    assert f"no counter of the CPU's energy in {tmp_path / 'none'}" == found.why_not
    assert math.isnan(joules(found.read(), found.read())) and found.of == ""
    assert math.isnan(joules([Reading(1)], []))
    assert math.isnan(joules([Reading(2)], [Reading(1)]))  # went back, and cannot begin again


@pytest.mark.parametrize("batch", [1, 4])
def test_joules_per_image_are_those_of_the_timed_calls(tmp_path, monkeypatch, batch):
    """Every call adds two joules to a counter, on a clock that calls advance by 50 ms."""
    place = zone(tmp_path, "intel-rapl:0", 0)

    class Counted(FakeRuntime):
        def __call__(self, images):
            super().__call__(images)
            (place / "energy_uj").write_text(str(2_000_000 * self.calls))

    fake = Counted(lambda call: 50.0)
    monkeypatch.setattr(
        "bench.speed.latency.energy_counters", lambda device: counters(device, tmp_path)
    )
    row, ms, _ = measure_latency(fake, DESCRIBED, 32, batch, clock=fake.clock)
    assert row.joules_per_image == pytest.approx(2 / batch) and row.joules_of == CPU
    texts = latency_texts([row], "")
    assert texts.rows[0][texts.heads.index("J/image")] == f"{2 / batch:.3g}"
    row = replace(row, joules_per_image=math.nan)
    assert "J/image" not in latency_texts([row], "").heads
