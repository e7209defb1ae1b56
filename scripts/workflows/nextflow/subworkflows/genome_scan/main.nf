//
// A genome scan scattered over shards: extract, score, merge, and tracks of the result
//

include { NYX_EXTRACT } from '../../modules/nyx/extract/main'
include { NYX_SCORE   } from '../../modules/nyx/score/main'
include { NYX_MERGE   } from '../../modules/nyx/merge/main'
include { NYX_VIEW    } from '../../modules/nyx/view/main'

workflow GENOME_SCAN {

    take:
    ch_fasta  // channel: [ val(meta), path(fasta), path(fai) ]
    ch_model  // channel: path(model)
    shards    // integer: how many shards
    suffix    // string: format of the result (bw, parquet, tsv, ...)

    main:

    ch_shards = ch_fasta
        .combine(channel.of(1..shards))
        .map { meta, _fasta, _fai, part -> [ meta + [ id: "${meta.id}.${part}", whole: meta.id ], [], 'tiles', "${part}/${shards}" ] }

    NYX_EXTRACT ( ch_shards, ch_fasta.first() )

    NYX_SCORE ( NYX_EXTRACT.out.arrows, ch_model.first() )

    ch_all = NYX_SCORE.out.arrows
        .map { meta, arrows -> [ groupKey(meta.whole, shards), arrows ] }
        .groupTuple()
        .map { whole, arrows -> [ [ id: whole.toString() ], arrows ] }

    NYX_MERGE ( ch_all )

    NYX_VIEW ( NYX_MERGE.out.arrows.map { meta, arrows -> [ meta, arrows, suffix ] } )

    emit:
    arrows    = NYX_MERGE.out.arrows                            // channel: [ val(meta), path(arrows) ]
    converted = NYX_VIEW.out.converted                          // channel: [ val(meta), path(file) ]
    stats     = NYX_EXTRACT.out.stats.mix(NYX_SCORE.out.stats)  // channel: [ val(meta), path(json) ]
}
