"""How OpenMP's threads wait: set before PyTorch is imported, unless the user has."""

import os

import pytest

from vgg_deploy.waiting_threads import TURNS, let_waiting_threads_sleep


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, ("PASSIVE", TURNS)),
        ({"GOMP_SPINCOUNT": "5"}, ("PASSIVE", "5")),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ("ACTIVE", None)),
    ],
)
def test_what_the_user_set_stays(given, expected, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    let_waiting_threads_sleep()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ.get("GOMP_SPINCOUNT")) == expected
