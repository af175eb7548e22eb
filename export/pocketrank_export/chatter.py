"""Hold back what the converters are known to chat about, and nothing else.

They write to the process's standard error from C++, and no setting of theirs silences all of it.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTER = re.compile(
    rb"^(?:"
    rb"I\d{4} .*"  # absl's information lines
    rb"|INFO: .*"  # TFLite's
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|Failed to load \S*torchao\S*\.so: .*"  # kernels of torchao for other machines
    rb"|.*Applying Transformations to tensors.*"  # a progress bar that ai-edge-quantizer can't be asked to leave out
    rb"|W\d{4} .*torchvision is not installed\. Skipping .*"
    rb"|W\d{4} .*_pytree\.py:\d+\] .* is an Enum subclass .*"
    rb")\s*$"
)


def is_chatter(line: bytes) -> bool:
    """Whether a line of standard error is one of those known to mean nothing."""
    return _CHATTER.match(line) is not None


@contextmanager
def quiet() -> Iterator[None]:
    """Hold standard error back inside the block, then write out all of it but the known chatter.

    On an error all of it is written out. What other threads write to standard error meanwhile comes out at the end of
    the block too.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    failed = True
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated", category=FutureWarning
                )
                yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if failed or not is_chatter(line):
                    os.write(2, line)
