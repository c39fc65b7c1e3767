"""The PyTorch side of `wick bench-ops`: builds a case it is told and times it, eager and compiled, when asked. One JSON object per line.

{"op", "dtype", "shape": {…}, "compile"}  →  {"ways": ["eager", "compiled"]}, on a GPU also "naive" where PyTorch has the op in one piece
{"way", "warm_up", "calls"}               →  {"seconds": of `calls` calls together, after `warm_up` others}
"""
import json
import math
import sys
import time

import torch
import torch.nn.functional as F

IDLE_SECONDS = 0.04  # PyTorch's threads spin for a while after their work, which would slow whoever has the next turn
DEVICE = sys.argv[2]  # "cpu" or "cuda:0"
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def normal(*shape, dtype=torch.float32):
    return torch.randn(*shape).to(dtype)


def rope_halves(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


def rope_pairs(x, cos, sin):
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def rope_case(function, position_axis):
    def make(s, dtype):
        x = normal(1, *((s["T"], s["H"]) if position_axis == 1 else (s["H"], s["T"])), s["Dh"], dtype=dtype)
        angle = torch.outer(torch.arange(s["T"]).float(), 10000 ** (-torch.arange(0, s["Dh"], 2).float() / s["Dh"]))
        if position_axis == 1:
            angle = angle[:, None, :]
        return function, (x, angle.cos().to(dtype), angle.sin().to(dtype))
    return make


def row_case(function, *weights):
    """Functions of [rows, N] and weights [N]."""
    return lambda s, dtype: (function, (normal(s["rows"], s["N"], dtype=dtype), *(normal(s["N"], dtype=dtype) for _ in weights)))


def add_rms_norm(x, w, r):
    r += x
    return F.rms_norm(r, (r.shape[-1],), w, 1e-5)


def add_rms_norm_case(s, dtype):
    shape = s["rows"], s["N"]
    return add_rms_norm, (normal(*shape, dtype=dtype) * 1e-3, normal(s["N"], dtype=dtype), normal(*shape, dtype=dtype))


def gated_case(function):
    def gated(x):
        gate, up = x.chunk(2, -1)
        return function(gate) * up
    return lambda s, dtype: (gated, (normal(s["rows"], 2 * s["N"], dtype=dtype),))


def linear_case(s, dtype):
    return F.linear, (normal(s["T"], s["K"], dtype=dtype), normal(s["N"], s["K"], dtype=dtype) / math.sqrt(s["K"]))


def matmul_case(s, dtype):
    return torch.matmul, (normal(s["B"], s["T"], s["K"], dtype=dtype), normal(s["B"], s["K"], s["N"], dtype=dtype))


def qkv_case(s, dtype):
    heads = s["H"] + 2 * s["K"]
    w = normal(heads * s["Dh"], s["D"], dtype=dtype) / math.sqrt(s["D"])

    def project(x):
        y = F.linear(x, w).view(1, -1, heads, s["Dh"]).transpose(1, 2)
        return y[:, :s["H"]], y[:, s["H"]:s["H"] + s["K"]], y[:, s["H"] + s["K"]:]
    return project, (normal(1, s["T"], s["D"], dtype=dtype),)


def embedding_case(s, dtype):
    return F.embedding, (torch.arange(s["T"]) * 7919 % s["V"], normal(s["V"], s["D"], dtype=dtype))


def attend(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)


def attention_case(s, dtype):
    # With T < S rows the mask depends on S - T; PyTorch's own is_causal would start it at key 0.
    q = normal(1, s["H"], s["T"], s["Dh"], dtype=dtype)
    k, v = (normal(1, s["K"], s["S"], s["Dh"], dtype=dtype) for _ in range(2))
    if s["T"] in (1, s["S"]):
        return attend, (q, k, v)
    mask = torch.ones(s["T"], s["S"], dtype=torch.bool).tril(s["S"] - s["T"])
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True), (q, k, v)


def layer_case(s, dtype):
    d, h, kv, dh, f, t = s["D"], s["H"], s["K"], s["Dh"], s["F"], s["T"]
    w = {name: normal(*shape, dtype=dtype) / math.sqrt(shape[1]) for name, shape in {
        "qkv": ((h + 2 * kv) * dh, d), "o": (d, h * dh), "gate_up": (2 * f, d), "down": (d, f)}.items()}
    norm1, norm2 = torch.ones(d, dtype=dtype), torch.ones(d, dtype=dtype)
    angle = torch.outer(torch.arange(t).float(), 10000 ** (-torch.arange(0, dh, 2).float() / dh))
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)

    def layer(x):
        y = F.linear(F.rms_norm(x, (d,), norm1, 1e-5), w["qkv"]).view(1, t, h + 2 * kv, dh).transpose(1, 2)
        q, k = rope_halves(y[:, :h], cos, sin), rope_halves(y[:, h:h + kv], cos, sin)
        y = attend(q, k, y[:, h + kv:]).transpose(1, 2).reshape(1, t, h * dh)
        x = x + F.linear(y, w["o"])
        gate, up = F.linear(F.rms_norm(x, (d,), norm2, 1e-5), w["gate_up"]).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, w["down"])
    return layer, (normal(1, t, d, dtype=dtype),)


CASES = {
    "rope": rope_case(rope_halves, 2), "rope_i": rope_case(rope_pairs, 2),
    "rope_thd": rope_case(rope_halves, 1), "rope_i_thd": rope_case(rope_pairs, 1),
    "softmax": row_case(lambda x: F.softmax(x, -1)), "log_softmax": row_case(lambda x: F.log_softmax(x, -1)),
    "rms_norm": row_case(lambda x, w: F.rms_norm(x, (x.shape[-1],), w, 1e-5), "w"), "add_rms_norm": add_rms_norm_case,
    "layer_norm": row_case(lambda x, w, b: F.layer_norm(x, (x.shape[-1],), w, b, 1e-5), "w", "b"),
    "silu": row_case(F.silu), "gelu": row_case(F.gelu), "gelu_tanh": row_case(lambda x: F.gelu(x, approximate="tanh")),
    "swiglu": gated_case(F.silu), "geglu": gated_case(F.gelu),
    "linear": linear_case, "matmul": matmul_case, "qkv_projection": qkv_case, "embedding": embedding_case,
    "attention": attention_case, "layer": layer_case,
}


def composed_softmax(x):
    weights = torch.exp(x - x.amax(-1, keepdim=True))
    return weights / weights.sum(-1, keepdim=True)


def composed_log_softmax(x):
    shifted = x - x.amax(-1, keepdim=True)
    return shifted - torch.exp(shifted).sum(-1, keepdim=True).log()


def composed_rms_norm(x, w):
    wide = x.float()
    return w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


def composed_layer_norm(x, w, b):
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) * w + b


# From elementary steps, as programs do it that do not know better; on the CPU wick has ways of its own for that.
COMPOSED = {"softmax": composed_softmax, "log_softmax": composed_log_softmax, "rms_norm": composed_rms_norm, "layer_norm": composed_layer_norm}


def prepare(message):
    function, arguments = CASES[message["op"]](message["shape"], DTYPES[message["dtype"]])
    ways = {"eager": lambda: function(*arguments)}
    if DEVICE != "cpu" and message["op"] in COMPOSED:
        ways["naive"] = lambda: COMPOSED[message["op"]](*arguments)
    if message["compile"]:
        torch._dynamo.reset()
        compiled = torch.compile(function, dynamic=False)
        ways["compiled"] = lambda: compiled(*arguments)
    for way in ways.values():
        way()
        way()
    return ways


def seconds_of(way, calls):
    if DEVICE == "cpu":
        start = time.perf_counter()
        for _ in range(calls):
            way()
        seconds = time.perf_counter() - start
        time.sleep(IDLE_SECONDS)
        return seconds
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(calls):
        way()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e-3


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_default_device(DEVICE)
    torch.manual_seed(0)
    ways = {}
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not be taken for an answer
    with torch.inference_mode():
        for line in sys.stdin:
            message = json.loads(line)
            try:
                if "op" in message:
                    ways = {}
                    ways = prepare(message)
                    answer = {"ways": list(ways)}
                else:
                    way = ways[message["way"]]
                    for _ in range(message["warm_up"]):
                        way()
                    answer = {"seconds": seconds_of(way, message["calls"])}
            except Exception as error:  # told to the caller, who goes on with the next case
                answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


main()
