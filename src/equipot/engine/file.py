"""The container of an exported model (.eqn): a JSON header for people and programs, and named tensors. numpy only.

All numbers little-endian. The engine (`csrc/engine/file.cpp`) reads the same format:

| bytes | content |
|---|---|
| 0–8 | `EQUIPOTN` |
| 8–12, 12–16 | u32 version of the format, u32 number of tensors |
| 16–24, 24–32 | u64 bytes of the JSON text, u64 bytes of the whole file |
| 32–40 | u64 CRC-32 of everything behind it |
| 40– | the JSON text, zeros to a multiple of 64, one 128-byte record per tensor, then the tensors, each at a multiple of 64 |

A record: name, 64 bytes, zero-terminated; u32 type (0: float64, 1: int64); u32 number of dimensions ≤ 4; u64 shape[4]; u64 offset from the file's
beginning; u64 bytes; 8 zeros.

Version 2 holds an ensemble: a tensor `ensemble`, the number of its members, and the tensors of member i as `members.<i>.NAME`.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equipot.errors import UserError

FILE_VERSION = 2
"""The newest; a file of one model is of version 1, an ensemble's of version 2."""
MAGIC = b"EQUIPOTN"
SUFFIX = ".eqn"
ENSEMBLE = "ensemble"
_HEAD = struct.Struct("<8sIIQQQ")
_RECORD = struct.Struct("<64sII4QQQ8x")
_TYPES = (np.dtype("<f8"), np.dtype("<i8"))


class NativeFile(NamedTuple):
    """What an .eqn file holds."""

    header: dict[str, Any]
    tensors: dict[str, np.ndarray]


def to_bytes(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    """The bytes of a file; float and integer arrays of up to four dimensions. Raises ValueError for anything else."""
    text = json.dumps(header).encode()
    offset = _padded(_HEAD.size + len(text)) + _RECORD.size * len(tensors)
    records, parts = [], []
    for name, value in tensors.items():
        array = np.asarray(value)
        kind = 1 if array.dtype.kind in "iub" else 0
        content = np.ascontiguousarray(array, _TYPES[kind]).tobytes()
        if len(name.encode()) > 63 or array.ndim > 4:
            raise ValueError(f"tensor {name}: a name of at most 63 bytes and at most four dimensions")
        offset = _padded(offset)
        shape = (*array.shape, *[0] * (4 - array.ndim))
        records.append(_RECORD.pack(name.encode(), kind, array.ndim, *shape, offset, len(content)))
        parts.append((offset, content))
        offset += len(content)
    body = bytearray(offset)
    body[_HEAD.size : _HEAD.size + len(text)] = text
    first = _padded(_HEAD.size + len(text))
    body[first : first + _RECORD.size * len(records)] = b"".join(records)
    for start, content in parts:
        body[start : start + len(content)] = content
    checksum = zlib.crc32(bytes(body[_HEAD.size :]))
    body[: _HEAD.size] = _HEAD.pack(MAGIC, 2 if ENSEMBLE in tensors else 1, len(tensors), len(text), offset, checksum)
    return bytes(body)


def read_native(path: str | Path) -> NativeFile:
    """Header and tensors of a file; raises UserError if it is missing, damaged, of a newer version or not such a file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such model file")
    content = path.read_bytes()
    if len(content) < _HEAD.size or content[:8] != MAGIC:
        raise UserError(f"{path}: not an exported model (.eqn): make one with equipot export MODEL --to lammps -o FILE.eqn")
    _, version, n, text_bytes, file_bytes, checksum = _HEAD.unpack_from(content)
    if not 1 <= version <= FILE_VERSION:
        raise UserError(f"{path}: version {version} of the format, this equipot reads up to {FILE_VERSION}: export the model anew")
    if file_bytes != len(content) or zlib.crc32(content[_HEAD.size :]) != checksum:
        raise UserError(f"{path}: damaged or cut short")
    try:
        return _parse(content, n, text_bytes)
    except (ValueError, IndexError, struct.error) as error:
        raise UserError(f"{path}: damaged ({error})") from None


def _parse(content: bytes, n: int, text_bytes: int) -> NativeFile:
    header = json.loads(content[_HEAD.size : _HEAD.size + text_bytes])
    first = _padded(_HEAD.size + text_bytes)
    tensors = {}
    for i in range(n):
        name, kind, ndim, *rest = _RECORD.unpack_from(content, first + i * _RECORD.size)
        shape, offset, size = rest[:ndim], rest[4], rest[5]
        tensors[name.rstrip(b"\0").decode()] = np.frombuffer(content[offset : offset + size], _TYPES[kind]).reshape(shape)
    return NativeFile(header, tensors)


def _padded(n: int) -> int:
    return -(-n // 64) * 64
