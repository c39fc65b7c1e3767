#!/usr/bin/env python3
"""Writes tests/data/blocks/goldens.json: blocks of random bytes with sane scales, and the values that ggml's own dequantiser makes of them.
Needs the package `llama-cpp-python` for its libggml; the result is committed."""
import ctypes
import json
import pathlib
import random
import struct

import llama_cpp

# name in wick: (name in ggml, elements and bytes of a block, where f16 scales stand)
TYPES = {
    "q4_0": ("q4_0", 32, 18, [0]),
    "q4_1": ("q4_1", 32, 20, [0, 2]),
    "q5_0": ("q5_0", 32, 22, [0]),
    "q5_1": ("q5_1", 32, 24, [0, 2]),
    "q8_0": ("q8_0", 32, 34, [0]),
    "q4_k": ("q4_K", 256, 144, [0, 2]),
    "q5_k": ("q5_K", 256, 176, [0, 2]),
    "q6_k": ("q6_K", 256, 210, [208]),
}
BLOCKS = 2


def main():
    ggml = ctypes.CDLL(str(next((pathlib.Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.so"))))
    numbers = random.Random(1)
    result = {}
    for name, (theirs, elements, size, scales) in TYPES.items():
        blocks = bytearray()
        for _ in range(BLOCKS):
            block = bytearray(numbers.randbytes(size))
            for at in scales:
                block[at : at + 2] = struct.pack("<e", numbers.uniform(-2, 2))
            blocks += block
        values = (ctypes.c_float * (BLOCKS * elements))()
        getattr(ggml, f"dequantize_row_{theirs}")(bytes(blocks), values, ctypes.c_int64(BLOCKS * elements))
        result[name] = {"blocks": blocks.hex(), "f32": bytes(values).hex()}
    path = pathlib.Path(__file__).resolve().parent.parent / "tests/data/blocks/goldens.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
