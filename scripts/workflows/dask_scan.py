"""Scores many files with Dask: each file is a task that runs a nyx pipeline in processes of its own.

    dask_scan.py --model DIR --out DIR [--workers N] FILE.parquet...

Every input is a Parquet (or Arrow) file of rows as nyx-extract and nyx-view write them; every output is a Parquet file
of the same name. A task that a lost worker was at is done again; an output that is there is not made again, and appears
under its name only when it is whole. Prints the number of rows and a digest of all scores that does not depend on how the
rows were cut into files.
"""

import argparse
import hashlib
import shlex
import subprocess
from pathlib import Path

import dask
import dask.dataframe
import pyarrow.parquet
from dask.distributed import Client, LocalCluster


def score(source, target, model):
    """Runs one file through the pipeline; nyx-view names the file when it is whole."""
    if not target.exists():
        code = (
            f"nyx-score -q --no-pg --model {shlex.quote(str(model))} -@ 1 {shlex.quote(str(source))} | "
            f"nyx-view -q --no-pg -O parquet -o {shlex.quote(str(target))}"
        )
        subprocess.run(["bash", "-o", "pipefail", "-c", code], check=True)
    return str(target)


def digest(files):
    """Returns rows and a digest of region and probabilities, in the order of the regions."""
    files = sorted(files, key=lambda file: pyarrow.parquet.read_table(file, columns=["region"])["region"][0].as_py())
    total, rows = hashlib.sha256(), 0
    for file in files:
        table = pyarrow.parquet.read_table(file, columns=["region", "probs"])
        for region, probs in zip(table["region"].to_pylist(), table["probs"].to_pylist(), strict=True):
            total.update(f"{region}\t{probs}\n".encode())
            rows += 1
    return rows, total.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    # On a cluster: Client("scheduler:8786"), or dask_jobqueue.SLURMCluster.
    with LocalCluster(n_workers=options.workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        tasks = [
            dask.delayed(score)(file.resolve(), (options.out / file.name).resolve(), options.model.resolve())
            for file in options.files
        ]
        outputs = dask.compute(*tasks)
        # From here on it is a Dask dataframe as any other.
        frame = dask.dataframe.read_parquet(list(outputs), columns=["region", "status"])
        counts = frame.groupby("status").size().compute()
    rows, total = digest(outputs)
    assert rows == counts.sum(), "the dataframe has the rows that were written"
    print(f"{rows} rows in {len(outputs)} files, {total}")


if __name__ == "__main__":
    main()
