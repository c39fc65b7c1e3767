// What this machine is and how much of it this process may use.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace wick {

// The instruction sets that kernels exist for, in rising order: those of x86-64, then those of arm64.
enum class Isa { kScalar, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAvx512Amx, kNeon, kNeonDot, kNeonBf16 };
inline constexpr Isa kIsas[] = {Isa::kScalar,    Isa::kAvx2, Isa::kAvx512,  Isa::kAvx512Vnni, Isa::kAvx512Bf16,
                                Isa::kAvx512Amx, Isa::kNeon, Isa::kNeonDot, Isa::kNeonBf16};

// The values of WICK_CPU: "scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "avx512amx", "neon", "neon_dot", "neon_bf16".
const char* isa_name(Isa isa);
std::optional<Isa> isa_from_name(std::string_view name);  // nothing for an unknown name
bool isa_available(Isa isa);                            // this processor and kernel can run it (kScalar always)
// kAvx2 asks for AVX2+FMA+F16C; kAvx512 for F/BW/DQ/VL/CD; kAvx512Vnni for VNNI on top, kAvx512Bf16 for BF16 on top
// of that, kAvx512Amx for AMX's tiles and BF16 on top of both; kNeonDot for DotProd; kNeonBf16 for BF16 on top. Linux lends tiles to
// processes that ask: the first call about kAvx512Amx asks, after which sigaltstack() refuses stacks too small for them.

// Whether `isa` has products of bytes (VPDPBUSD), and of pairs of bf16 (VDPBF16PS, BFMLAL); without them bf16 is multiplied in f32.
constexpr bool has_vnni(Isa isa) { return isa == Isa::kAvx512Vnni || isa == Isa::kAvx512Bf16 || isa == Isa::kAvx512Amx; }
constexpr bool has_bf16_pairs(Isa isa) { return isa == Isa::kAvx512Bf16 || isa == Isa::kAvx512Amx || isa == Isa::kNeonBf16; }

// The best available instruction set, or the one named by the environment variable WICK_CPU. On Intel's processors kAvx512Bf16 is not: they
// do one VDPBF16PS every other cycle, half as many products as with FMA in f32. Throws Error(kUnsupported) when WICK_CPU names one that is
// unknown or not available here.
Isa default_isa();

// What bounds the number of useful threads. Values are read once per call, not cached: a quota may change.
struct CpuLimits {
  int physical_cores;               // sibling hyperthreads counted once
  int affinity;                     // processors that the calling thread may run on
  std::optional<double> quota;      // cgroup v1/v2 CPU quota in cores; nothing when unlimited
  int threads() const;              // min of the three, quota rounded up, at least 1
};
CpuLimits cpu_limits();

// Bytes this process may use: the smaller of physical memory and the cgroup limit (v1 or v2, every level up to the root).
uint64_t memory_limit_bytes();
uint64_t memory_available_bytes();  // of that limit, what is free now
uint64_t peak_rss_bytes();          // high-water mark of this process

bool cpu_is_intel();                // its maker, where kernels go different ways
std::string cpu_model_name();       // as the kernel reports it, "unknown" if it does not

}  // namespace wick
