"""vgg-doctor: what works on this machine, and why the rest does not."""

import click

from vgg_deploy.command_line import Choice, Command, version_option
from vgg_deploy.errors import CheckFailed, interruptible
from vgg_deploy.printable import json_text

RUNTIMES = (  # as `vgg_deploy.checkup.runtimes.DEVICES`, whose import takes long
    *("torch", "torch-compile", "onnxruntime", "onnxruntime-tensorrt", "onnxruntime-rtx"),
    *("openvino", "openvino-bf16", "ncnn", "ncnn-bf16", "tensorrt", "tensorrt-rtx"),
)


@click.command(
    cls=Command,
    examples=(
        ("vgg-doctor", "everything"),
        ("vgg-doctor onnxruntime ncnn", "exit code 1 if one of them fails"),
        ("vgg-doctor onnxruntime --device cuda --json", "for scripts"),
    ),
)
@click.argument("runtimes", metavar="[RUNTIME]...", nargs=-1, type=Choice(RUNTIMES))
@click.option(
    "--device",
    type=Choice(("cpu", "cuda")),
    help="Try the runtimes only there.  [default: on the CPU, and on a GPU if there is one]",
)
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON.")
@version_option
@interruptible("nothing was changed; run the same command again")
def main(runtimes: tuple[str, ...], device: str | None, as_json: bool) -> None:
    """Show versions, CPU, GPU, disk and caches, and try each RUNTIME (all if none is named).

    A tiny net is run in each, in a process of its own. The exit code is 1 if a named runtime fails
    or is not installed.
    """
    from vgg_deploy.checkup.report import as_text, examine, failed

    found = examine(runtimes, device)
    click.echo(json_text(found, 2) if as_json else as_text(found))
    bad = failed(found, runtimes)
    if bad:
        raise CheckFailed(f"does not work here: {', '.join(bad)}; the reason stands above")


if __name__ == "__main__":
    main(prog_name="vgg-doctor")
