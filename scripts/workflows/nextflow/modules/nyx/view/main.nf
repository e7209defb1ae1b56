process NYX_VIEW {
    tag "$meta.id"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container "nyx:0.1.0"

    input:
    tuple val(meta), path(rows), val(suffix)

    output:
    tuple val(meta), path("${prefix}.${suffix}"), emit: converted
    tuple val("${task.process}"), val('nyx'), eval("nyx-view --version | sed 's/.* //'"), topic: versions, emit: versions_nyx

    when:
    task.ext.when == null || task.ext.when

    script:
    def args     = task.ext.args ?: ''
    prefix       = task.ext.prefix ?: "${meta.id}"
    """
    nyx-view \\
        ${args} \\
        -o ${prefix}.${suffix} \\
        ${rows}
    """

    stub:
    prefix       = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.${suffix}
    """
}
