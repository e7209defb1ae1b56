#!/usr/bin/env nextflow
//
// nextflow run scripts/workflows/nextflow --fasta hg38.fa --model ctcf --shards 64
//

include { GENOME_SCAN } from './subworkflows/genome_scan/main'

params.fasta  = null
params.model  = null
params.shards = 16
params.suffix = 'bw'

workflow {
    ch_fasta = channel.of([ [ id: file(params.fasta).simpleName ], file(params.fasta, checkIfExists: true), [] ])
    ch_model = channel.of(file(params.model, checkIfExists: true))
    GENOME_SCAN ( ch_fasta, ch_model, params.shards as Integer, params.suffix )
}
