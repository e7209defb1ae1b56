"""Snakemake wrapper of nyx-score."""

import shlex

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=False, stderr=True)
output = shlex.quote(str(snakemake.output[0]))
model, rows = shlex.quote(str(snakemake.input.model)), shlex.quote(str(snakemake.input.rows))
shell(f"nyx-score --model {model} {extra} -@ {snakemake.threads} -o {output} {rows} {log}")
