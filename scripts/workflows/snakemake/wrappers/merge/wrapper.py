"""Snakemake wrapper of nyx-merge."""

import shlex

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=False, stderr=True)
output = shlex.quote(str(snakemake.output[0]))
rows = shlex.join(str(path) for path in snakemake.input)
shell(f"nyx-merge {extra} -o {output} {rows} {log}")
