"""A worker process: ``python -m hybridflow.tuning.worker``, started by `hybridflow.tuning.pool`.

It reads a plan from its standard input, then a line for each trial that it may run,
and answers with a line. When its standard input closes it ends at once, so no worker
outlives the command that started it.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from typing import IO, Any

from hybridflow.errors import HybridFlowError
from hybridflow.tuning.messages import read_lines, read_plan, write_line
from hybridflow.tuning.trial import run_trial


def main() -> None:
    """Run a trial for each order."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints goes where messages do not
    stream = sys.stdin.buffer
    payload = read_plan(stream)
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(stream, orders), daemon=True).start()
    try:
        index, plan = pickle.loads(payload)
        study = plan.open(worker=index)
    except Exception as error:
        write_line(answers, {"broken": f"{type(error).__name__}: {error}"})
        os._exit(1)
    write_line(answers, {"ready": True})
    while True:  # until it is killed, or its standard input closes
        order = orders.get()
        try:
            number = run_trial(plan, study, order["seconds"])
        except HybridFlowError as error:
            write_line(answers, {"refused": str(error)})
        except Exception as error:  # the storage went away
            write_line(answers, {"broken": f"{type(error).__name__}: {error}"})
            os._exit(1)
        else:
            write_line(answers, {"trial": number})


def _listen(stream: IO[bytes], orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Pass orders on, and end the process when nobody gives any more."""
    for order in read_lines(stream):
        orders.put(order)
    os._exit(1)


if __name__ == "__main__":
    main()
