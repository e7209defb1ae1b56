"""Snakemake wrapper of nyx-hits."""

import shlex

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=False, stderr=True)
output = shlex.quote(str(snakemake.output[0]))
motifs, rows = shlex.quote(str(snakemake.input.motifs)), shlex.quote(str(snakemake.input.rows))
shell(f"nyx-hits --motifs {motifs} {extra} -@ {snakemake.threads} -o {output} {rows} {log}")
