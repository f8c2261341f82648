#!/usr/bin/env python3
"""What the job must make of the text, computed without any of its code. Python 3, standard library only.

    ./expected.py                           writes expected/ from data/alice.txt
    ./expected.py --check                   compares instead; exit code 1 if anything differs
    ./expected.py --text TEXT.txt --to DIR  for another text

counts.jsonl    the messages of the stream `counts`, in order
top.jsonl       the messages of the stream `top`, in order
counts.tsv      the store `counts`: key, tab, value; by the bytes of the keys
"""

import argparse
import collections
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
# From a letter to the last letter before anything that is neither letter nor apostrophe.
WORD = re.compile(rb"[a-z](?:[a-z']*[a-z])?")


def message(word, count):
    return f'{{"word":"{word}","count":{count}}}'


def compute(text):
    """The files of `expected` by name, as lists of lines."""
    counts = collections.Counter()
    messages = []
    for match in WORD.finditer(text.lower()):
        word = match.group().decode()
        counts[word] += 1
        messages.append(message(word, counts[word]))
    top = sorted(counts, key=lambda word: (-counts[word], word))[:20]
    return {
        "counts.jsonl": messages,
        "top.jsonl": [message(word, counts[word]) for word in top],
        "counts.tsv": [f"{word}\t{counts[word]}" for word in sorted(counts)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--text", type=pathlib.Path, default=HERE / "data" / "alice.txt")
    parser.add_argument("--to", type=pathlib.Path, default=HERE / "expected", metavar="DIR")
    arguments = parser.parse_args()
    wrong = False
    for name, lines in compute(arguments.text.read_bytes()).items():
        path = arguments.to / name
        content = "".join(line + "\n" for line in lines).encode()
        if not arguments.check:
            arguments.to.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif not path.is_file() or path.read_bytes() != content:
            wrong = True
            print(f"{path} is not what {arguments.text} yields", file=sys.stderr)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
