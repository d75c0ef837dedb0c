"""Hints about errors of the core in the options of commands, by the error's `about`."""

HINTS = {
    "data": "check --data",
    "unreadable": "remove it or pass --on-error skip",
    "address": "check the address or pass --on-error skip",
    "stray": "move it or pass --on-error skip",
    "threads": "lower --threads",
    "killed": "lower --threads and run again",
    "device": "use --device cpu, or install a driver and a CUDA build of torch",
    "cuda": "add --device cuda",
    "cpu": "use --device cpu",
    "cuda or precision": "add --device cuda, or use another precision",
    "classes": "--classes FILE lists them in the order of its scores",
    "crop": "if the net was trained at crop 32, add --crop 32",
    "profiles": "build it with these --scales and --max-batch, and with the --data whose aspect "
    "ratios it must take",
    "localiser": "labels come from MODELS, and boxes from --boxes-by BOXNET.pt, trained with "
    "python -m train --task localise",
    "head": "train a head on them: python -m train --weights FILE --freeze-features --data FOLDER",
}
OF_FEATURES = {**HINTS, "data": "check DATA"}  # of vgg-features, which has no --data
