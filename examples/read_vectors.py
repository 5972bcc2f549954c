"""Read test vectors and write results, with nothing but Python's own struct, json and math.

    vtnp vectors export vectors
    python examples/read_vectors.py vectors results
    vtnp vectors check vectors results

Three formulas are computed here, number by number: softmax with its gradient, attention, and layer
norm. It is written for a reader who ports it to a language without arrays: loops over flat lists of
numbers, whose shapes are in the manifest.
"""

import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

Numbers = list[float]

LETTERS = {"F64": "d", "I64": "q", "BOOL": "?"}  # format characters of struct


# --- safetensors: the length of the header, the header in JSON, the numbers -----------------------


def read(path: Path) -> dict[str, Numbers]:
    """Return the arrays of a file, each a flat list of numbers in row-major order."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        count = math.prod(entry["shape"])
        arrays[name] = list(struct.unpack(f"<{count}{LETTERS[entry['dtype']]}", data[begin:end]))
    return arrays


def write(path: Path, arrays: dict[str, tuple[list[int], Numbers]]) -> None:
    """Write arrays, name -> (shape, flat list of numbers), in float64."""
    header, data = {}, b""
    for name, (shape, numbers) in arrays.items():
        packed = struct.pack(f"<{len(numbers)}d", *numbers)
        offsets = [len(data), len(data) + len(packed)]
        header[name] = {"dtype": "F64", "shape": shape, "data_offsets": offsets}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8 bytes
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# --- The formulas ---------------------------------------------------------------------------------


def softmax(case: Any, arrays: dict[str, Numbers]) -> dict[str, Numbers]:
    """y[i] = exp(x[i]) / sum_j exp(x[j]), for each row of the last axis."""
    n = case["sizes"]["n"]
    x, w = arrays["inputs/x"], arrays["weights/y"]
    y, gradient = [], []
    for start in range(0, len(x), n):
        row = x[start : start + n]
        largest = max(row)  # subtracted, so that no exponential overflows
        exponentials = [math.exp(number - largest) for number in row]
        total = math.fsum(exponentials)
        probabilities = [number / total for number in exponentials]
        y += probabilities
        # The derivative of sum_i w[i] y[i] by x[j] is y[j] (w[j] - sum_i w[i] y[i]).
        weights = w[start : start + n]
        mean = math.fsum(a * b for a, b in zip(weights, probabilities, strict=True))
        gradient += [p * (a - mean) for p, a in zip(probabilities, weights, strict=True)]
    return {"outputs/y": y, "gradients/x": gradient}


def attention(case: Any, arrays: dict[str, Numbers]) -> dict[str, Numbers]:
    """y[i] = sum_j alpha[i,j] V[j], alpha the softmax over j of <Q[i], K[j]> scale."""
    n, m, d_k, d_v = (case["sizes"][letter] for letter in ("n", "m", "d_k", "d_v"))
    Q, K, V = arrays["inputs/Q"], arrays["inputs/K"], arrays["inputs/V"]
    mask = arrays["inputs/mask"] if "mask" in case["inputs"] else [1.0] * (n * m)
    scale = case["options"]["scale"]
    if scale is None:
        scale = 1.0 / math.sqrt(d_k)
    y = []
    for b in range(math.prod(case["batch"])):
        # A mask without batch axes is shared by the batch.
        start = b * n * m if len(mask) > n * m else 0
        for i in range(n):
            allowed = [j for j in range(m) if mask[start + i * m + j]]
            scores = {}
            for j in allowed:
                product = 0.0
                for k in range(d_k):
                    product += Q[(b * n + i) * d_k + k] * K[(b * m + j) * d_k + k]
                scores[j] = product * scale
            largest = max(scores.values())
            alpha = {j: math.exp(score - largest) for j, score in scores.items()}
            total = math.fsum(alpha.values())
            for k in range(d_v):
                terms = (alpha[j] / total * V[(b * m + j) * d_v + k] for j in allowed)
                y.append(math.fsum(terms))
    return {"outputs/y": y}


def layer_norm(case: Any, arrays: dict[str, Numbers]) -> dict[str, Numbers]:
    """y = gamma (x - mu) / sqrt(sigma^2 + eps) + beta, for each row of the last axis."""
    d, eps = case["sizes"]["d"], case["options"]["eps"]
    x, gamma, beta = arrays["inputs/x"], arrays["inputs/gamma"], arrays["inputs/beta"]
    y = []
    for start in range(0, len(x), d):
        row = x[start : start + d]
        mean = math.fsum(row) / d
        variance = math.fsum((number - mean) ** 2 for number in row) / d
        root = math.sqrt(variance + eps)
        y += [gamma[k] * (row[k] - mean) / root + beta[k] for k in range(d)]
    return {"outputs/y": y}


FORMULAS = {"softmax": softmax, "attention": attention, "layer-norm": layer_norm}


# --- All cases ------------------------------------------------------------------------------------


def compute(vectors: Path, results: Path) -> None:
    """Compute the formulas that are written here, and write the results under the same names."""
    manifest = json.loads((vectors / "manifest.json").read_text(encoding="utf-8"))
    results.mkdir(parents=True, exist_ok=True)
    for formula in manifest["formulas"]:
        if formula["id"] not in FORMULAS:
            continue
        arrays = read(vectors / formula["file"])
        computed = {}
        for case in formula["cases"]:
            front = f"{case['name']}/"
            own = {name[len(front) :]: x for name, x in arrays.items() if name.startswith(front)}
            for name, numbers in FORMULAS[formula["id"]](case, own).items():
                group, letter = name.split("/")
                computed[front + name] = case[group][letter]["shape"], numbers
        write(results / formula["file"], computed)
        print(f"{formula['id']}: {len(computed)} arrays")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python read_vectors.py VECTORS RESULTS")
    compute(Path(sys.argv[1]), Path(sys.argv[2]))
