process NYX_MERGE {
    tag "$meta.id"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container "nyx:0.1.0"

    input:
    tuple val(meta), path(shards)

    output:
    tuple val(meta), path("${prefix}.merged.arrows"), emit: arrows
    tuple val("${task.process}"), val('nyx'), eval("nyx-merge --version | sed 's/.* //'"), topic: versions, emit: versions_nyx

    when:
    task.ext.when == null || task.ext.when

    script:
    def args     = task.ext.args ?: ''
    prefix       = task.ext.prefix ?: "${meta.id}"
    """
    nyx-merge \\
        ${args} \\
        -o ${prefix}.merged.arrows \\
        ${shards}
    """

    stub:
    prefix       = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.merged.arrows
    """
}
