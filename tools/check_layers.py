#!/usr/bin/env python3
"""Holds the code to its layout: who may include whom, where third-party headers may stand, how long files and functions may be.

    tools/check_layers.py              checks the repository, prints what is wrong and a line of figures
    tools/check_layers.py --self-test  checks that it can find each kind of fault
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOWED = {
    "base": set(),
    "tensor": {"base"},
    "kernels": {"tensor", "base"},
    "ops": {"kernels", "tensor", "base"},
    "nn": {"ops", "kernels", "tensor", "base"},
    "formats": {"nn", "tensor", "base"},
    "text": {"base"},
    "models": {"formats", "nn", "ops", "kernels", "tensor", "base"},
    "engine": {"models", "text", "formats", "nn", "ops", "kernels", "tensor", "base"},
    "apps": {"engine", "models", "text", "formats", "nn", "ops", "kernels", "tensor", "base"},
}
# Third-party headers: pattern of the include → folders (prefixes below wick/) where it may stand.
THIRD_PARTY = [
    (r"hwy/|immintrin\.h|arm_neon\.h|x86intrin\.h", ["kernels/cpu"]),
    (r"cuda|cublas|cudnn", ["kernels/cuda", "tensor"]),
    (r"nlohmann/", ["formats", "text", "apps"]),
    (r"pcre2|utf8proc", ["text"]),
    (r"CLI/|openssl/", ["apps"]),
]
MAX_FILE = 800
MAX_FUNCTION = 120
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|work|tmp)/\w")


def include_faults(path, text):
    folder = path.split("/")[1]
    for _, name in INCLUDE.findall(text):
        if name.startswith("wick/"):
            other = name.split("/")[1]
            if other != folder and other.endswith(".h") is False and other not in ALLOWED.get(folder, set()):
                yield f"{path}: wick/{folder} may not include {name}"
        for pattern, places in THIRD_PARTY:
            if re.match(pattern, name) and not any(path.startswith(f"wick/{place}") for place in places):
                yield f"{path}: {name} may only be included in {', '.join(places)}"


def function_lengths(text):
    """Lines of each outermost brace block that follows a parameter list, by counting braces outside of strings and comments."""
    clean = re.sub(r'//[^\n]*|/\*.*?\*/|R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    stack, line, last = [], 1, ""
    for match in re.finditer(r"[{}\n;]|[^{}\n;]+", clean):
        token = match.group()
        if token == "\n":
            line += 1
        elif token == "{":
            stack.append((line, bool(re.search(r"\)\s*(const|noexcept|override|final|->.*|:.*)*\s*$", last, re.S))))
            last = ""
        elif token == "}":
            if stack:
                start, is_function = stack.pop()
                if is_function:
                    yield start, line - start + 1
            last = ""
        elif token == ";":
            last = ""
        else:
            last += " " + token


def faults_of(path, text):
    lines = text.count("\n") + 1
    if lines > MAX_FILE:
        yield f"{path}: {lines} lines, the limit is {MAX_FILE}"
    if path.startswith("wick/") and path.count("/") >= 2:
        yield from include_faults(path, text)
    for start, length in function_lengths(text):
        if length > MAX_FUNCTION:
            yield f"{path}:{start}: a function of {length} lines, the limit is {MAX_FUNCTION}"
    for match in MACHINE_PATH.finditer(text):
        if not path.startswith("tests/") and "/tmp/" not in match.group():
            yield f"{path}: the path '{match.group()}…' is of one machine"


def self_test():
    samples = [
        ("wick/base/a.cc", '#include "wick/tensor/tensor.h"\n', "may not include"),
        ("wick/text/a.cc", '#include "wick/formats/gguf.h"\n', "may not include"),
        ("wick/ops/a.cc", "#include <immintrin.h>\n", "may only be included"),
        ("wick/engine/a.cc", "#include <nlohmann/json.hpp>\n", "may only be included"),
        ("wick/base/a.cc", "\n" * 900, "lines, the limit"),
        ("wick/base/a.cc", "void f() {\n" + "  g();\n" * 130 + "}\n", "a function of"),
        ("wick/base/a.cc", 'auto p = "/home/me/model";\n', "of one machine"),
    ]
    for path, text, expected in samples:
        found = list(faults_of(path, text))
        assert any(expected in fault for fault in found), (path, text[:60], found)
    good = '#include "wick/base/error.h"\n#include <vector>\nvoid f() {\n  g();\n}\n'
    assert not list(faults_of("wick/tensor/a.cc", good))


def main():
    if "--self-test" in sys.argv:
        return self_test()
    faults, files, lines = [], 0, {"wick": 0, "tests": 0}
    for top in ("wick", "include", "tests", "bench", "fuzz"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix not in {".h", ".cc", ".cu", ".cpp"}:
                continue
            text = path.read_text()
            files += 1
            if top in lines:
                lines[top] += text.count("\n")
            faults += faults_of(path.relative_to(ROOT).as_posix(), text)
    for fault in faults:
        print(fault)
    print(f"layers: {files} files, {lines['wick']} source lines, {lines['tests']} test lines ({lines['tests'] / max(1, lines['wick']):.2f})")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
