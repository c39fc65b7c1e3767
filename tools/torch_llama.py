"""A Llama model of a GGUF file as PyTorch programs write it: what wick is compared with by tools/fidelity.py and bench/compare.

Plain weights only (f32, f16, bf16). Needs torch and numpy.
"""
import struct

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


class Llama:
    """Weights, activations and residual in dtype, norms in f32. The cache has room for `context` positions."""

    def __init__(self, path, device, dtype, context):
        file = Gguf(path)
        key = lambda name, default=None: file.values.get("llama." + name, default)
        weight = lambda name: file.tensor(name + ".weight", device, dtype)
        self.heads = key("attention.head_count")
        self.kv_heads = key("attention.head_count_kv", self.heads)
        self.size = key("attention.key_length", key("embedding_length") // self.heads)
        self.eps = key("attention.layer_norm_rms_epsilon", 1e-5)
        self.rotary = key("rope.dimension_count", self.size)
        frequency = key("rope.freq_base", 10000.0) ** (-torch.arange(0, self.rotary, 2, dtype=torch.float64, device=device) / self.rotary)
        if "rope_freqs.weight" in file.tensors:
            frequency = frequency / file.tensor("rope_freqs.weight", device, torch.float64)
        angle = torch.outer(torch.arange(context, dtype=torch.float64, device=device), frequency)
        self.cos, self.sin = angle.cos().to(dtype), angle.sin().to(dtype)
        names = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
        self.layers = [{name: weight(f"blk.{i}.{name}") for name in names} for i in range(key("block_count"))]
        self.table = weight("token_embd")
        self.head = weight("output") if "output.weight" in file.tensors else self.table
        self.norm_weight = weight("output_norm")
        self.cache = torch.zeros(len(self.layers), 2, 1, self.kv_heads, context, self.size, dtype=dtype, device=device)
        self.slots = torch.arange(context, device=device)

    def norm(self, x, weight):
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)

    def rotated(self, x, positions):
        cos, sin = self.cos[positions], self.sin[positions]
        a, b = x[..., 0:self.rotary:2], x[..., 1:self.rotary:2]
        return torch.cat((torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2), x[..., self.rotary:]), -1)

    @torch.inference_mode()
    def forward(self, ids, positions, last_only=False):
        """Logits [T, V] of ids [T] at positions [T], those of a prompt from 0 on or one behind what the cache holds."""
        prompt = len(ids) > 1
        seen_by = None if prompt else (self.slots <= positions[:, None])[None, None]
        x = self.table[ids][None]
        for layer, (keys, values) in zip(self.layers, self.cache):
            split = lambda name, count: F.linear(h, layer[name]).view(1, len(ids), count, self.size).transpose(1, 2)
            h = self.norm(x, layer["attn_norm"])
            q, k, v = split("attn_q", self.heads), split("attn_k", self.kv_heads), split("attn_v", self.kv_heads)
            q, k = self.rotated(q, positions), self.rotated(k, positions)
            keys.index_copy_(2, positions, k)
            values.index_copy_(2, positions, v)
            if not prompt:
                k, v = keys, values
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=seen_by, is_causal=prompt, enable_gqa=True)
            x = x + F.linear(seen.transpose(1, 2).reshape(1, len(ids), self.heads * self.size), layer["attn_output"])
            h = self.norm(x, layer["ffn_norm"])
            x = x + F.linear(F.silu(F.linear(h, layer["ffn_gate"])) * F.linear(h, layer["ffn_up"]), layer["ffn_down"])
        return F.linear(self.norm(x[:, -1:] if last_only else x, self.norm_weight), self.head)[0]


class Decoder:
    """Greedy decoding whose step is captured once and replayed as a CUDA graph; every token stays on the device."""

    def __init__(self, model, device):
        self.model = model
        self.id, self.position = torch.zeros(1, dtype=torch.long, device=device), torch.zeros(1, dtype=torch.long, device=device)
        side = torch.cuda.Stream(device)
        with torch.cuda.stream(side):  # what is made up at first use must not be captured
            self.step()
        side.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    def step(self):
        self.id.copy_(self.model.forward(self.id, self.position).argmax(-1))
        self.position.add_(1)

    def run(self, first, position, count):
        self.id.fill_(first)
        self.position.fill_(position)
        for _ in range(count):
            self.graph.replay()
        return self.id.item()
