"""Snakemake wrapper of nyx-view."""

import shlex

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=False, stderr=True)
output = shlex.quote(str(snakemake.output[0]))
rows = shlex.quote(str(snakemake.input[0]))
shell(f"nyx-view {extra} -o {output} {rows} {log}")
