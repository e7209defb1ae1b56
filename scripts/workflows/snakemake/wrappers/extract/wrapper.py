"""Snakemake wrapper of nyx-extract."""

import shlex

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=False, stderr=True)
output = shlex.quote(str(snakemake.output[0]))
command = snakemake.params.command
flags = {"regions": "--peaks", "variants": "--vcf", "sequences": ""}
words = []
if genome := snakemake.input.get("genome"):
    words += ["--fasta", genome]
if rows := snakemake.input.get("rows"):
    words += [word for word in (flags.get(command, ""), rows) if word]
if shard := snakemake.params.get("shard"):
    words += ["--shard", shard]
shell("nyx-extract {command} {words} {extra} -@ {threads} -o {output} {log}".format(
    command=command, words=shlex.join(words), extra=extra, threads=snakemake.threads, output=output, log=log
))
