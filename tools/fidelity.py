#!/usr/bin/env python3
"""How far wick's bf16 arithmetic on a GPU is from f32 on the same weights, beside PyTorch's in bf16: mean KL divergence of the next token.

    tools/fidelity.py MODEL.gguf [--text FILE] [--tokens N] [--wick PATH] [--device cuda]

The reference is `wick logits --exact` on the CPU, which is everything in f32. Weights of other types than bf16 are turned into it first, so
that all three read the same values. wick is run as for a prompt and, with --chunk 1, as for generated tokens. Fails when one of its ways is
further from the reference than PyTorch. Needs Python with torch and numpy, and a Llama model.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
F32, F16, BF16 = 0, 1, 30


class Gguf:
    """Key-values and plain tensors of a GGUF file."""

    def __init__(self, path):
        self.data = np.memmap(path, dtype=np.uint8, mode="r")
        self.at = 8
        tensors, values = self.scalar("<Q"), self.scalar("<Q")
        self.values = {self.string(): self.value(self.scalar("<I")) for _ in range(values)}
        self.tensors = {}
        for _ in range(tensors):
            name = self.string()
            shape = [self.scalar("<Q") for _ in range(self.scalar("<I"))][::-1]
            self.tensors[name] = (shape, self.scalar("<I"), self.scalar("<Q"))
        alignment = self.values.get("general.alignment", 32)
        self.begin = -(-self.at // alignment) * alignment

    def scalar(self, form):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def string(self):
        length = self.scalar("<Q")
        self.at += length
        return bytes(self.data[self.at - length:self.at]).decode("utf-8", "replace")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            of, count = self.scalar("<I"), self.scalar("<Q")
            return [self.value(of) for _ in range(count)]
        return self.scalar(SCALARS[kind])

    def tensor(self, name, device, dtype):
        shape, kind, offset = self.tensors[name]
        numpy_type, torch_type = {F32: (np.float32, torch.float32), F16: (np.int16, torch.float16), BF16: (np.int16, torch.bfloat16)}[kind]
        count = int(np.prod(shape))
        begin = self.begin + offset
        raw = np.array(self.data[begin:begin + count * np.dtype(numpy_type).itemsize]).view(numpy_type)
        values = torch.from_numpy(raw)
        return (values if kind == F32 else values.view(torch_type)).reshape(shape).to(device=device, dtype=dtype)


@torch.inference_mode()
def torch_logits(path, ids, device, dtype):
    """A Llama forward as PyTorch programs write it: weights, activations and residual in dtype, norms in f32."""
    file = Gguf(path)
    key = lambda name, default=None: file.values.get("llama." + name, default)
    heads = key("attention.head_count")
    kv_heads = key("attention.head_count_kv", heads)
    width = key("embedding_length")
    size = key("attention.key_length", width // heads)
    eps = key("attention.layer_norm_rms_epsilon", 1e-5)
    weight = lambda name: file.tensor(name + ".weight", device, dtype)
    rotary = key("rope.dimension_count", size)
    frequency = key("rope.freq_base", 10000.0) ** (-torch.arange(0, rotary, 2, dtype=torch.float64, device=device) / rotary)
    if "rope_freqs.weight" in file.tensors:
        frequency = frequency / file.tensor("rope_freqs.weight", device, torch.float64)
    angle = torch.outer(torch.arange(len(ids), dtype=torch.float64, device=device), frequency)
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)

    def norm(x, w):
        wide = x.float()
        return w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(dtype)

    def rotated(x):
        a, b = x[..., 0:rotary:2], x[..., 1:rotary:2]
        return torch.cat((torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2), x[..., rotary:]), -1)

    def split(x, count):
        return x.view(1, len(ids), count, size).transpose(1, 2)

    table = weight("token_embd")
    x = table[torch.tensor(ids, device=device)][None]
    for i in range(key("block_count")):
        layer = f"blk.{i}."
        h = norm(x, weight(layer + "attn_norm"))
        q, k, v = (split(F.linear(h, weight(layer + name)), count) for name, count in (("attn_q", heads), ("attn_k", kv_heads), ("attn_v", kv_heads)))
        seen = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True, enable_gqa=True)
        x = x + F.linear(seen.transpose(1, 2).reshape(1, len(ids), heads * size), weight(layer + "attn_output"))
        h = norm(x, weight(layer + "ffn_norm"))
        x = x + F.linear(F.silu(F.linear(h, weight(layer + "ffn_gate"))) * F.linear(h, weight(layer + "ffn_up")), weight(layer + "ffn_down"))
    head = weight("output") if "output.weight" in file.tensors else table
    return F.linear(norm(x, weight("output_norm")), head)[0].float().cpu()


def run(wick, *arguments):
    result = subprocess.run([wick, *arguments], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"fidelity: {' '.join([wick, *arguments[:2]])}: {result.stderr.strip()}")
    return result.stdout


def divergence(reference, logits):
    """Mean over positions of KL(reference || logits), and how often both would choose the same token."""
    total, same = 0.0, 0
    for expected, got in zip(reference, logits):
        p, q = F.log_softmax(expected.double(), -1), F.log_softmax(got.double(), -1)
        total += (p.exp() * (p - q)).sum().item()
        same += int(expected.argmax() == got.argmax())
    return {"kl": total / len(reference), "same_choice": same / len(reference)}


def token_ids(options, model):
    if options.text:
        return json.loads(run(options.wick, "tokenize", model, "-f", options.text, "--json"))["ids"][:options.tokens]
    vocabulary = Gguf(model).tensors["token_embd.weight"][0][0]
    return torch.randint(vocabulary, (options.tokens,), generator=torch.Generator().manual_seed(0)).tolist()


def main():
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--text", help="a file whose tokens are evaluated; default: random tokens")
    parser.add_argument("--tokens", type=int, default=512, help="at most so many")
    parser.add_argument("--wick", default=os.path.join(here, "build", "cuda", "bin", "wick"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "bf16.gguf")
        run(options.wick, "quantize", options.model, model, "--type", "bf16")
        ids = token_ids(options, model)

        def logits(*flags):
            out = os.path.join(folder, "logits.npy")
            run(options.wick, "logits", model, "--ids", ",".join(map(str, ids)), "--all", "--out", out, "-c", str(len(ids)), *flags)
            return torch.from_numpy(np.load(out))

        reference = logits("--exact")
        ways = {
            "wick": divergence(reference, logits("--device", options.device)),
            "wick, token by token": divergence(reference, logits("--device", options.device, "--chunk", "1")),
            "PyTorch": divergence(reference, torch_logits(model, ids, options.device, torch.bfloat16)),
        }
    worst = max(ways[name]["kl"] for name in ways if name != "PyTorch")
    passes = worst <= ways["PyTorch"]["kl"]
    if options.json:
        print(json.dumps({"model": options.model, "tokens": len(ids), "ways": ways, "passes": passes}))
    else:
        for name, way in ways.items():
            print(f"{name:22} KL {way['kl']:.3e}, the reference's choice in {100 * way['same_choice']:.1f} %")
        print("passes" if passes else "fails: wick is further from f32 than PyTorch")
    sys.exit(0 if passes else 1)


main()
