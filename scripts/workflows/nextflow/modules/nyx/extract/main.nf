process NYX_EXTRACT {
    tag "$meta.id"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container "nyx:0.1.0"

    input:
    tuple val(meta), path(rows), val(command), val(shard)
    tuple val(meta2), path(fasta), path(fai)

    output:
    tuple val(meta), path("${prefix}.arrows"), emit: arrows
    tuple val(meta), path("*_mqc.json"), emit: stats
    tuple val("${task.process}"), val('nyx'), eval("nyx-extract --version | sed 's/.* //'"), topic: versions, emit: versions_nyx

    when:
    task.ext.when == null || task.ext.when

    script:
    def args     = task.ext.args ?: ''
    prefix       = task.ext.prefix ?: "${meta.id}"
    def flag     = [regions: '--peaks', variants: '--vcf', sequences: '', tiles: ''][command]
    def genome   = fasta ? "--fasta ${fasta}" : ''
    def input    = rows ? "${flag} ${rows}" : ''
    def part     = shard ? "--shard ${shard}" : ''
    """
    nyx-extract \\
        ${command} \\
        ${genome} \\
        ${input} \\
        ${part} \\
        ${args} \\
        -@ ${task.cpus} \\
        --stats ${prefix}.nyx-extract_mqc.json \\
        -o ${prefix}.arrows
    """

    stub:
    prefix       = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.arrows
    touch ${prefix}.nyx-extract_mqc.json
    """
}
