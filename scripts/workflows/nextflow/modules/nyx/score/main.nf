process NYX_SCORE {
    tag "$meta.id"
    label 'process_high'

    conda "${moduleDir}/environment.yml"
    container "nyx:0.1.0"

    input:
    tuple val(meta), path(rows)
    path model

    output:
    tuple val(meta), path("${prefix}.scored.arrows"), emit: arrows
    tuple val(meta), path("*_mqc.json"), emit: stats
    tuple val("${task.process}"), val('nyx'), eval("nyx-score --version | sed 's/.* //'"), topic: versions, emit: versions_nyx

    when:
    task.ext.when == null || task.ext.when

    script:
    def args     = task.ext.args ?: ''
    prefix       = task.ext.prefix ?: "${meta.id}"
    def device   = task.accelerator ? 'cuda' : 'cpu'
    """
    nyx-score \\
        --model ${model} \\
        --device ${device} \\
        ${args} \\
        -@ ${task.cpus} \\
        --stats ${prefix}.nyx-score_mqc.json \\
        -o ${prefix}.scored.arrows \\
        ${rows}
    """

    stub:
    prefix       = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.scored.arrows
    touch ${prefix}.nyx-score_mqc.json
    """
}
