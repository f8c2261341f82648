#!/usr/bin/env python3
"""Makes data/flights-SIZE.csv from the npm package `vega-datasets`: needs npm, and for more than 20k rows pyarrow.

    ./fetch.py 20k      the rows of data/flights.csv
    ./fetch.py 200k     every 15th of the three million
    ./fetch.py 3m       all of them

Sizes 2k, 5k, 10k and 20k are files of the package. Its own file of 200k rows has no airports, so these are drawn from
the three million.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import tarfile
import tempfile

PACKAGE = "vega-datasets@3.2.1"
COLUMNS = ["date", "delay", "distance", "origin", "destination"]
DATE_FORMAT = "%Y/%m/%d %H:%M"
SMALL = ["2k", "5k", "10k", "20k"]
LARGE_STEPS = {"200k": 15, "3m": 1}


def unpack(name, folder):
    """Fetches the package and takes one file out of it."""
    packed = subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    with tarfile.open(folder / packed.stdout.strip().splitlines()[-1]) as archive:
        file = archive.extractfile(f"package/data/{name}")
        path = folder / name
        path.write_bytes(file.read())
    return path


def small_rows(path):
    for row in json.loads(path.read_text(encoding="utf-8")):
        yield [row[column] for column in COLUMNS]


def large_rows(path, step):
    try:
        from pyarrow import parquet
    except ImportError:
        raise SystemExit("three million rows are in a Parquet file: install the Python package pyarrow")
    index = 0
    for batch in parquet.ParquetFile(path).iter_batches(columns=COLUMNS):
        columns = [batch.column(column).to_pylist() for column in COLUMNS]
        for date, *rest in zip(*columns):
            if index % step == 0:
                yield [date.strftime(DATE_FORMAT), *rest]
            index += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=[*SMALL, *LARGE_STEPS])
    size = parser.parse_args().size
    target = pathlib.Path(__file__).parent / "data" / f"flights-{size}.csv"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if size in SMALL:
            rows = small_rows(unpack(f"flights-{size}.json", folder))
        else:
            rows = large_rows(unpack("flights-3m.parquet", folder), LARGE_STEPS[size])
        with open(target, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)
    print(target)


if __name__ == "__main__":
    main()
