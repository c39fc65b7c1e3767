#!/usr/bin/env python3
"""Writes tests/data/ops/goldens.json: what PyTorch gives for each op and for a whole attention block, computed in f64 from inputs that a
formula makes (the same in tests/support/golden.h), so that only results are stored. Needs the package `torch`; the result is committed."""
import json
import math
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


def values(seed, *shape):
    """f32 numbers in [-1, 1) that are multiples of 2^-15: exact everywhere."""
    count = math.prod(shape)
    mixed = [((i + 1) * 2654435761 + seed * 40503 * 65537) % 2**32 for i in range(count)]
    return torch.tensor([((m ^ (m >> 15)) * 2246822519 % 2**32 >> 16) / 32768.0 - 1.0 for m in mixed]).reshape(shape)


def tables(positions, half, theta=10000.0):
    angles = torch.arange(positions)[:, None] * theta ** (-torch.arange(half) / half)
    return angles.cos().float().double(), angles.sin().float().double()


def rope(x, cos, sin, interleaved):
    half = cos.shape[-1]
    first, second = (x[..., 0 : 2 * half : 2], x[..., 1 : 2 * half : 2]) if interleaved else (x[..., :half], x[..., half : 2 * half])
    y0, y1 = first * cos - second * sin, first * sin + second * cos
    turned = torch.stack((y0, y1), -1).flatten(-2) if interleaved else torch.cat((y0, y1), -1)
    return torch.cat((turned, x[..., 2 * half :]), -1)


def attention(q, k, v, causal=True):
    group, rows, keys = q.shape[1] // k.shape[1], q.shape[2], k.shape[2]
    mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows) if causal else None
    return F.scaled_dot_product_attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), attn_mask=mask)


def block():
    """B = 2, 4 heads, 2 kv heads of 16, D = 24: a prompt of 5 and three cached steps, which are the whole causal attention."""
    x, wq, wk, wv, wo = values(1, 2, 8, 24), values(2, 64, 24), values(3, 32, 24), values(4, 32, 24), values(5, 24, 64)
    cos, sin = tables(8, 8)
    heads = lambda w, n: (x @ w.T).reshape(2, 8, n, 16).transpose(1, 2)
    y = attention(rope(heads(wq, 4), cos, sin, False), rope(heads(wk, 2), cos, sin, False), heads(wv, 2))
    return y.transpose(1, 2).reshape(2, 8, 64) @ wo.T


def main():
    x = values(1, 2, 3, 5, 16)
    cos, sin = tables(5, 8)
    partial = tables(5, 4)
    wide = values(2, 3, 20)
    w, b = values(3, 20), values(4, 20)
    q, k, v = values(5, 2, 4, 3, 16), values(6, 2, 2, 7, 16), values(7, 2, 2, 7, 16)
    results = {
        "rope": rope(x, cos, sin, False),
        "rope_i": rope(x, cos, sin, True),
        "rope_partial": rope(x, *partial, False),
        "rope_i_partial": rope(x, *partial, True),
        "softmax": F.softmax(wide * 8, -1),
        "softmax_dim0": F.softmax(wide * 8, 0),
        "log_softmax": F.log_softmax(wide * 8, -1),
        "rms_norm": F.rms_norm(wide, (20,), w, 1e-5),
        "layer_norm": F.layer_norm(wide, (20,), w, b, 1e-5),
        "silu": F.silu(wide * 8),
        "gelu": F.gelu(wide * 8),
        "gelu_tanh": F.gelu(wide * 8, approximate="tanh"),
        "swiglu": F.silu(wide[:, :10]) * wide[:, 10:],
        "geglu": F.gelu(wide[:, :10]) * wide[:, 10:],
        "linear": F.linear(wide, values(8, 6, 20), values(9, 6)),
        "matmul": values(10, 2, 1, 3, 5) @ values(11, 4, 5, 2),
        "embedding": F.embedding(torch.tensor([[2, 0], [1, 2]]), wide),
        "attention": attention(q, k, v),
        "attention_all": attention(q, k, v, causal=False),
        "block": block(),
    }
    out = pathlib.Path(__file__).resolve().parent.parent / "tests/data/ops/goldens.json"
    rows = (f'"{name}": {json.dumps([float(f"{value:.9g}") for value in result.flatten().tolist()])}' for name, result in results.items())
    out.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(f"{len(results)} results, {out.stat().st_size} bytes")


main()
