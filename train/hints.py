"""What to do about errors of the core, in the options of the training commands."""

HINTS = {
    "data": "check --data",
    "unreadable": "remove it or pass --on-error skip",
    "stray": "move it or pass --on-error skip",
    "threads": "lower --threads",
    "killed": "lower --threads and run again",
    "device": "use --device cpu, or install a driver and a CUDA build of torch",
    "localiser": "start from a classification net",
    "crop": "if the net was trained at crop 32, train it at --crop 32",
    "shards": "check --index",
}
