"""Scripts that measure one step in a process of its own, with as few imports as it needs.

Each prints its measurements as one line of JSON. `run_alone` starts them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def run_alone(module: str, *args: object, tree: Path | None = None, **environment: str) -> dict:
    """Run a module of this package in a process of its own.

    Args:
        module: Its name, such as "build_engine".
        args: Its arguments.
        tree: Another checkout of this repository whose code is measured.
        environment: Additional environment variables.

    Returns:
        What it printed last, from JSON.

    Raises:
        SystemExit: With its error output if it failed.
    """
    own = os.environ.get("PYTHONPATH", "")
    # the script of this checkout, and the other packages of the other one
    paths = [str(Path(__file__).parents[1]), str(tree) if tree else own]
    done = subprocess.run(
        [sys.executable, "-m", f"alone.{module}", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=tree,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
