#!/usr/bin/env python3
"""Train a model: `train.py --help`."""

import contextlib
import datetime
import json
from pathlib import Path
from typing import Any

from heimdall_jax.command import TrainArguments, leave, parse_train, run_script
from heimdall_jax.stopping import Stop

STOP = Stop()


def main(arguments: list[str]) -> None:
    """Parse and train, or deliver what was trained."""
    parsed = parse_train(arguments)
    if parsed.sync and parsed.out is not None:
        from heimdall_jax.handover import sync

        said = sync(parsed.out, parsed.settings.tracking, parsed.settings.export.publish)
        print(json.dumps({"run": str(parsed.out), "delivered": said.splitlines()}) if parsed.json else said)
    elif told := _train(parsed):
        print(json.dumps(told))


def _train(parsed: TrainArguments) -> dict[str, Any]:
    """What `--json` prints; nothing without, or where this is not the first of several processes."""
    import jax
    from rich.console import Console

    from heimdall_jax.handover import summary
    from heimdall_jax.hosts import joined
    from heimdall_jax.pipeline import train
    from heimdall_jax.run_folder import is_begun
    from heimdall_jax.seeds import train_seeds

    settings, console = parsed.settings, Console(stderr=True) if parsed.json else None
    out = parsed.out or Path("runs") / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    with jax.disable_jit() if parsed.debug else contextlib.nullcontext(), joined(parsed.launch, STOP) as hosts:
        if parsed.seeds is not None:
            told = train_seeds(settings, out, parsed.seeds, resume=parsed.resume, console=console, stop=STOP)
            return {"run": str(out), **told} if parsed.json else {}
        resume = parsed.resume or (parsed.auto_resume and is_begun(out))
        measured = train(settings, out, resume=resume, console=console, stop=STOP, hosts=hosts)
        return summary(out, settings.tracking) if parsed.json and measured else {}


if __name__ == "__main__":
    leave(run_script(main, after_stop="train.py --out RUN --resume goes on from the last checkpoint", stop=STOP))
