"""python -m export: vgg-export without its script."""

from export.cli import main

if __name__ == "__main__":
    main(prog_name="python -m export")
