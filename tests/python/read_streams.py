"""Reads Arrow streams with readers that are not ours and prints what they found, a JSON object a file.

Usage: read_streams.py FILE...   (an error of any reader is reported as a string)
"""

import json
import sys

import duckdb
import polars
import pyarrow
import pyarrow.ipc


def with_pyarrow(path):
    with pyarrow.OSFile(path) as file:
        table = pyarrow.ipc.open_stream(file).read_all()
        table.validate(full=True)
        return table


def with_duckdb(path):
    with pyarrow.OSFile(path) as file:
        reader = pyarrow.ipc.open_stream(file)
        return duckdb.sql("select count(*), sum(region) from reader").fetchall()[0]


def attempt(read):
    try:
        return read()
    except Exception as error:  # any reader's own exception type is the point here
        return f"error: {type(error).__name__}"


for path in sys.argv[1:]:
    found = {
        "pyarrow": attempt(lambda: with_pyarrow(path).num_rows),
        "polars": attempt(lambda: polars.read_ipc_stream(path).height),
        "duckdb": attempt(lambda: int(with_duckdb(path)[0])),
    }
    if isinstance(found["pyarrow"], int):
        table = with_pyarrow(path)
        found["columns"] = table.column_names
        found["kind"] = table.schema.metadata.get(b"nyx.kind", b"").decode()
        found["chain"] = [step["tool"] for step in json.loads(table.schema.metadata[b"nyx.pg"])]
        found["same"] = polars.from_arrow(table).equals(polars.read_ipc_stream(path), null_equal=True)
    print(json.dumps(found))
