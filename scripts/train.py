"""Train a model: `train.py --help`."""

import contextlib
import datetime
from pathlib import Path

from heimdall_jax.command import leave, parse_train, run_script
from heimdall_jax.stopping import Stop

STOP = Stop()


def main(arguments: list[str]) -> None:
    """Parse and train, or deliver what was trained."""
    parsed = parse_train(arguments)
    if parsed.sync and parsed.out is not None:
        from heimdall_jax.handover import sync

        print(sync(parsed.out, parsed.settings.tracking, parsed.settings.export.publish))
        return
    import jax

    from heimdall_jax.hosts import joined
    from heimdall_jax.pipeline import train
    from heimdall_jax.run_folder import is_begun
    from heimdall_jax.seeds import train_seeds

    out = parsed.out or Path("runs") / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    with jax.disable_jit() if parsed.debug else contextlib.nullcontext(), joined(parsed.launch, STOP) as hosts:
        if parsed.seeds is None:
            resume = parsed.resume or (parsed.auto_resume and is_begun(out))
            train(parsed.settings, out, resume=resume, stop=STOP, hosts=hosts)
        else:
            train_seeds(parsed.settings, out, parsed.seeds, resume=parsed.resume, stop=STOP)


if __name__ == "__main__":
    leave(run_script(main, after_stop="train.py --out RUN --resume goes on from the last checkpoint", stop=STOP))
