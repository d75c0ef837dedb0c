"""Options of `python -m train` for a training of a second."""

THIN = [
    *("--width", "0.0625"),
    *("--crop", "32"),
    *("--side", "32:64"),
    *("--batch", "16"),
    *("--init", "he"),
    *("--workers", "0"),
    *("--threads", "2"),
]
