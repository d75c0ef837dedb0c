"""Lines of progress in a log."""

from vgg_deploy import progress


def test_what_was_done_before_does_not_count_as_fast(monkeypatch, capsys):
    """90 of 100 were done before; 5 more take 20 s, so the last 5 take 20 s as well."""
    now = iter([1000.0, 1020.0, 1020.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress.progress("steps", 100, 90) as bar:
        bar.advance(5)
    assert capsys.readouterr().err.startswith("steps   95 %  0:20 left")
