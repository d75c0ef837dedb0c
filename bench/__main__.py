"""python -m bench: vgg-bench under a name that torchrun can start."""

from bench.cli import main

if __name__ == "__main__":
    main(prog_name="python -m bench")
