#!/usr/bin/env python3
"""What the job must make of the data, computed without any of its code. Python 3, standard library only.

    ./expected.py                               writes expected/ from data/flights.csv
    ./expected.py --check                       compares instead; exit code 1 if anything differs
    ./expected.py --data FLIGHTS.csv --to DIR   for other data; a name that ends in .gz is decompressed

delays-P.jsonl      the messages of partition P of the stream `delays`, in order
by-origin.tsv       the store `by-origin`: key, tab, value; by the bytes of the keys
airports.jsonl      the last message of each airport: greatest mean first, equal ones by the airport's name
rejected.csv        the rows that are no flights, with the header; only where there are any
"""

import argparse
import csv
import decimal
import gzip
import io
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
PARTITIONS = 4
TENTH = decimal.Decimal("0.1")


def murmur2(data):
    """The hash by which Kafka's Java client finds the partition of a key (MurmurHash2 of 32 bits, signed in Java)."""
    mask, multiplier = 2**32 - 1, 0x5BD1E995

    def times(number):
        return number * multiplier & mask

    result = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        block = times(int.from_bytes(data[start : start + 4], "little"))
        result = times(result) ^ times(block ^ block >> 24)
    if whole < len(data):
        result = times(result ^ int.from_bytes(data[whole:], "little"))
    result = times(result ^ result >> 13)
    return result ^ result >> 15


def partition_of(key):
    return (murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS


def mean_of(delays, flights):
    """One decimal, half away from zero. Where the quotient is a tie it is short, and so the division is exact."""
    quotient = decimal.Decimal(delays) / decimal.Decimal(flights)
    mean = quotient.quantize(TENTH, decimal.ROUND_HALF_UP)
    return abs(mean) if mean == 0 else mean


def minutes(text):
    """The number, or None for what is no 32-bit integer."""
    if not re.fullmatch("[-+]?[0-9]+", text):
        return None
    return int(text) if -(2**31) <= int(text) < 2**31 else None


def read_rows(path):
    opened = gzip.open(path) if path.name.endswith(".gz") else open(path, "rb")
    with opened as file:
        yield from csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))


def compute(path):
    """The files of `expected` by name, as lists of lines."""
    rows = read_rows(path)
    header = next(rows)
    origin_at, delay_at = header.index("origin"), header.index("delay")
    seen = {}
    partitions = [[] for _ in range(PARTITIONS)]
    partition_by_origin = {}
    rejected = []
    for row in rows:
        if not row:
            continue
        origin, delay = row[origin_at], minutes(row[delay_at])
        if delay is None:
            rejected.append(row)
            continue
        delays = seen.setdefault(origin, [0, 0, delay])
        delays[0] += 1
        delays[1] += delay
        delays[2] = max(delays[2], delay)
        if origin not in partition_by_origin:
            partition_by_origin[origin] = partition_of(origin)
        partitions[partition_by_origin[origin]].append(message(origin, *delays))

    files = {f"delays-{number}.jsonl": lines for number, lines in enumerate(partitions)}
    files["by-origin.tsv"] = [
        f'{origin}\t{{"flights":{flights},"sum-delay":{total},"mean-delay":{mean_of(total, flights)},"worst-delay":{worst}}}'
        for origin, (flights, total, worst) in sorted(seen.items(), key=lambda item: item[0].encode())
    ]
    by_mean = sorted(seen, key=lambda origin: (-mean_of(seen[origin][1], seen[origin][0]), origin.encode()))
    files["airports.jsonl"] = [message(origin, *seen[origin]) for origin in by_mean]
    if rejected:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rejected])
        files["rejected.csv"] = text.getvalue().splitlines()
    return files


def message(origin, flights, total, worst):
    name = json.dumps(origin, ensure_ascii=False)
    return f'{{"origin":{name},"flights":{flights},"mean-delay":{mean_of(total, flights)},"worst-delay":{worst}}}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--data", type=pathlib.Path, default=HERE / "data" / "flights.csv")
    parser.add_argument("--to", type=pathlib.Path, default=HERE / "expected", metavar="DIR")
    arguments = parser.parse_args()
    wrong = False
    for name, lines in compute(arguments.data).items():
        path = arguments.to / name
        content = "".join(line + "\n" for line in lines).encode()
        if not arguments.check:
            arguments.to.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif not path.is_file() or path.read_bytes() != content:
            wrong = True
            print(f"{path} is not what {arguments.data} yields", file=sys.stderr)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
