"""Run a signature of a TFLite file on the runtime of this environment: numpy and a runtime are all it needs.

``python run_signature.py MODEL SIGNATURE CALLS.npz STATE.npz OUT.npz``: the arrays of CALLS carry the calls on their
first axis, and so do those of OUT. STATE holds inputs of the first call; those of the next are the outputs of these
names. Prints the signatures with their inputs and outputs as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(model: str, signature: str, calls_path: str, state_path: str, out_path: str) -> None:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model_content=Path(model).read_bytes(), num_threads=1)
    runner = interpreter.get_signature_runner(signature)
    calls, state = dict(np.load(calls_path)), dict(np.load(state_path))
    outputs = []
    for index in range(len(next(iter(calls.values())))):
        result = runner(**{name: np.asarray(values[index]) for name, values in calls.items()}, **state)
        outputs.append({name: np.array(value) for name, value in result.items()})
        state = {name: outputs[-1][name] for name in state}
    stacked: dict[str, Any] = {name: np.stack([output[name] for output in outputs]) for name in outputs[0]}
    np.savez(out_path, **stacked)
    sys.stdout.write(json.dumps(interpreter.get_signature_list()))


if __name__ == "__main__":
    main(*sys.argv[1:])
