"""TFLite files as objects, and written again in fewer bytes.

Each signature has tensors, shapes and scales of its own, and most of them are those of the other signatures. In a
format of offsets they may point to one copy, which the writers of converter and quantizer don't make use of.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from pocketrank.errors import InputError

_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite file
_ALIGNMENT = 16
"""Of the constants; TFLite's schema asks for it, and its Python writer forgets it."""


def read(content: bytes) -> Any:
    """The model of a TFLite file as ``schema_py_generated.ModelT``, its constants in ``buffers``.

    Raises:
        InputError: It is not a TFLite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != _IDENTIFIER:
        raise InputError(
            f"content: expected a TFLite file ({_IDENTIFIER!r} at byte 4), "
            f"got {len(content)} bytes starting {content[:8]!r}"
        )
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        for buffer in model.buffers:
            # Past 256 KiB of constants the quantizer puts them behind the flatbuffer and notes where.
            if buffer.offset > 1:
                buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        return model
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise InputError(f"content: a TFLite file that can't be read ({error}); pass the converter's output") from error


def packed(content: bytes) -> bytes:
    """Write a TFLite file again, as small as it gets without changing what it says.

    Args:
        content: A TFLite file.

    Returns:
        The same model; constants stand at multiples of 16 bytes.

    Guarantees:
        Read again it equals ``content``, number by number. The same bytes in give the same bytes out.

    Raises:
        InputError: It is not a TFLite file.
    """
    import flatbuffers  # type: ignore[import-untyped]

    class Writer(flatbuffers.Builder):  # type: ignore[misc]  # untyped
        def __init__(self) -> None:
            super().__init__(len(content))
            self.written: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802  (flatbuffers calls it)
            key = x.dtype.str, x.tobytes()
            if key not in self.written:
                if x.dtype == np.uint8:  # the bytes of a constant
                    self.Prep(_ALIGNMENT, x.nbytes)
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    writer = Writer()
    writer.Finish(read(content).Pack(writer), _IDENTIFIER)
    return bytes(writer.Output())
