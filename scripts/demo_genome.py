#!/usr/bin/env python3
"""The demo's genome again, written a second time and on its own: the oracle of src/demo/genome.rs.

Prints the first 16 digits of the SHA-256 of genome.fa and truth.bed, which the test in src/demo/genome.rs
expects. Needs the Python standard library only.
"""

import hashlib
from pathlib import Path

MOTIFS = Path(__file__).resolve().parent.parent / "src" / "demo" / "motifs.meme"
SEED = 20260101
CONTIGS = [("demo1", 180_000), ("demo2", 130_000), ("demo3", 90_000)]
MASK = (1 << 64) - 1


def splitmix(seed):
    """Yields the uniform numbers of SplitMix64."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield ((z ^ (z >> 31)) >> 11) / 2.0**53


def letter(uniform, probabilities):
    left = next(uniform)
    for base, probability in zip("ACGT", probabilities):
        left -= probability
        if left < 0:
            return base
    return "T"


def motifs():
    found = []
    for line in MOTIFS.read_text().splitlines():
        if line.startswith("MOTIF "):
            found.append((line.split()[1], []))
        elif found and line.startswith(" "):
            found[-1][1].append([float(word) for word in line.split()])
    return found


def below(uniform, n):
    return int(next(uniform) * n)


def main():
    uniform, known = splitmix(SEED), motifs()
    fasta, truth = [], []
    for contig, length in CONTIGS:
        bases = [letter(uniform, (0.29, 0.21, 0.21, 0.29)) for _ in range(length)]
        for slot in range(0, length, 1000):
            summit = slot + 333 + below(uniform, 333)
            below(uniform, 60), below(uniform, 60)  # the peak's borders
            if next(uniform) >= 0.5:
                continue
            wanted, here = 1 + below(uniform, 3), []
            while len(here) < wanted:
                name, rows = known[below(uniform, len(known))]
                start = summit - 100 + 15 + below(uniform, 200 - 30 - len(rows))
                end = start + len(rows)
                strand = "+" if next(uniform) < 0.5 else "-"
                word = "".join(letter(uniform, row) for row in rows)
                if any(start < b + 6 and a < end + 6 for a, b, _, _ in here):
                    continue
                if strand == "-":
                    word = word[::-1].translate(str.maketrans("ACGT", "TGCA"))
                bases[start:end] = word
                here.append((start, end, name, strand))
            truth += [f"{contig}\t{a}\t{b}\t{name}\t0\t{strand}\n" for a, b, name, strand in sorted(here)]
        text = "".join(bases)
        fasta.append(f">{contig}\n" + "".join(text[i : i + 60] + "\n" for i in range(0, length, 60)))
    for lines in (fasta, truth):
        print(hashlib.sha256("".join(lines).encode()).hexdigest()[:16])


if __name__ == "__main__":
    main()
