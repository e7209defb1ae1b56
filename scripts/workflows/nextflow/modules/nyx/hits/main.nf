process NYX_HITS {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "nyx:0.1.0"

    input:
    tuple val(meta), path(rows)
    path motifs

    output:
    tuple val(meta), path("${prefix}.hits.arrows"), emit: arrows
    tuple val(meta), path("*_mqc.json"), emit: stats
    tuple val("${task.process}"), val('nyx'), eval("nyx-hits --version | sed 's/.* //'"), topic: versions, emit: versions_nyx

    when:
    task.ext.when == null || task.ext.when

    script:
    def args     = task.ext.args ?: ''
    prefix       = task.ext.prefix ?: "${meta.id}"
    """
    nyx-hits \\
        --motifs ${motifs} \\
        ${args} \\
        -@ ${task.cpus} \\
        --stats ${prefix}.nyx-hits_mqc.json \\
        -o ${prefix}.hits.arrows \\
        ${rows}
    """

    stub:
    prefix       = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.hits.arrows
    touch ${prefix}.nyx-hits_mqc.json
    """
}
