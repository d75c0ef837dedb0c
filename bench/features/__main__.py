"""Runs vgg-features as `python -m bench.features`, a name that torchrun can start."""

from bench.features.cli import main

if __name__ == "__main__":
    main(prog_name="python -m bench.features")
