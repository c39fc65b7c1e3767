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
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

from torch_llama import Gguf, Llama


def torch_logits(path, ids, device, dtype):
    model = Llama(path, device, dtype, len(ids))
    return model.forward(torch.tensor(ids, device=device), torch.arange(len(ids), device=device)).float().cpu()


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
