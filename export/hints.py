"""Says what to do about errors of the core, in the options of vgg-export."""

HINTS = {
    "data": "check --calibration or --data",
    "unreadable": "remove it or pass --on-error skip",
    "stray": "move it or pass --on-error skip",
    "threads": "lower --threads",
    "killed": "lower --threads and run again",
    "crop": "if the net was trained at crop 32, add --crop 32",
    "profiles": (
        "build it with these --scales, --max-batch and the --data whose aspect ratios it must take"
    ),
    "head": "train a head on them: python -m train --weights FILE --freeze-features --data FOLDER",
}
