"""Runs vgg-bench as `python -m bench`, a name that torchrun can start."""

from bench.cli import main

if __name__ == "__main__":
    main(prog_name="python -m bench")
