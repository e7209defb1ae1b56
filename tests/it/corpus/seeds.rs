//! Small files of every format, made here with the writers of nyx and of its libraries: what the fuzzers begin with.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use noodles::{bcf, vcf as noodles_vcf};
use noodles_vcf::variant::io::Write as _;
use npyz::WriterBuilder;
use npyz::zip::{CompressionMethod, ZipWriter, write::FileOptions};
use nyx::pipe::{Pipe, ipc};
use nyx::provenance::{self, Step};
use nyx::region::Strand;
use nyx::schema::{Allele, Row, RowBuilder, RowKind, Status};
use rust_hdf5::{H5File, H5Group, LibverBound};
use serde_json::{Value, json};

use super::formats::{SEPARATOR, bgzf};

/// Returns the seeds of a format.
pub fn of(format: &str) -> Vec<Vec<u8>> {
    match format {
        "bed" => bed(),
        "config" => config(),
        "fasta" => fasta(),
        "hdf5" => hdf5(),
        "motifs" => motifs(),
        "npy" => npy(),
        "npz" => npz(),
        "stream" => stream(),
        "tabix" => tabix(),
        "tokenizer" => tokenizer(),
        "twobit" => vec![twobit()],
        "variants" => variants(),
        "weights" => weights(),
        other => panic!("no format {other}"),
    }
}

fn joined(files: &[&[u8]]) -> Vec<u8> {
    files.join(SEPARATOR)
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn bed() -> Vec<Vec<u8>> {
    texts(&[
        "chr1\t10\t20\nchr2 5 9\n\n# note\n",
        "track name=x\nchr1\t10\t20\tpeak 1\t0\t-\nchr1\t30\t40\t.\t0\t+\r\n",
        "chr1\t10\t200\tp1\t1000\t.\t5.5\t-1\t3.2\t90\nchr1\t300\t400\tp2\t1\t.\t1\t1\t1\t-1\n",
    ])
}

fn stream() -> Vec<Vec<u8>> {
    let genome = provenance::Genome::new("tiny.fa", vec![("chr1".into(), 100), ("chr2".into(), 50)]);
    let written = |kind: RowKind, fill: &dyn Fn(&mut RowBuilder)| {
        let schema = kind.schema(Some(&genome));
        let mut builder = RowBuilder::new(kind, schema.clone());
        fill(&mut builder);
        let batch = builder.finish().unwrap();
        let step = Step { tool: "nyx-extract".into(), version: "1".into(), ..Step::default() };
        let metadata = provenance::append(&schema.metadata, step).unwrap();
        let target = schema.as_ref().clone().with_metadata(metadata);
        let mut bytes = Vec::new();
        let pipe = Pipe::new(schema, [Ok(batch)].into_iter()).with_schema(target.into());
        ipc::write(pipe, &mut bytes).unwrap();
        bytes
    };
    let row = |region: u64, name| Row {
        region,
        chrom: Some("chr1"),
        start: 10,
        end: 14,
        strand: Strand::Forward,
        name,
        sequence: Some("ACGT"),
        status: Status::Ok,
    };
    let allele = |allele: u16| Allele {
        variant: 0,
        id: Some("rs1"),
        position: 12,
        reference: "G",
        alternate: if allele == 0 { "C,T" } else { "C" },
        allele,
        haplotype: None,
    };
    vec![
        written(RowKind::Regions, &|builder| {
            builder.push(&row(0, Some("peak 1")));
            builder.push(&row(1, None));
        }),
        written(RowKind::Variants, &|builder| {
            (0..2).for_each(|k| builder.push_allele(&row(0, Some("rs1")), &allele(k)));
        }),
        written(RowKind::Labelled, &|builder| builder.push_labelled(&row(0, None), Some(&[1.0]))),
    ]
}

const FASTA: &[u8] = b">chr1 first\nACGTACGTAC\nGTNNNNNNAC\nacg\n>chr2\nTTTT\n\n>empty\n";

fn fasta() -> Vec<Vec<u8>> {
    let fai = b"chr1\t23\t12\t10\t11\nchr2\t4\t44\t4\t5\nempty\t0\t57\t0\t0\n";
    vec![
        FASTA.to_vec(),
        joined(&[FASTA, fai]),
        // Compressed where there is a .gzi: no blocks besides the first.
        joined(&[FASTA, fai, &[0; 8]]),
        b">a\r\nACGT\r\nAC\r\n".to_vec(),
    ]
}

/// Two contigs, one with blocks of N and of lower case.
fn twobit() -> Vec<u8> {
    let mut bytes = Vec::new();
    let numbers = |bytes: &mut Vec<u8>, all: &[u32]| bytes.extend(all.iter().flat_map(|n| n.to_le_bytes()));
    numbers(&mut bytes, &[0x1A41_2743, 0, 2, 0]);
    for (name, place) in [(b'a', 28), (b'b', 66)] {
        bytes.extend([1, name]);
        numbers(&mut bytes, &[place]);
    }
    numbers(&mut bytes, &[9, 1, 2, 3, 1, 6, 2, 0]);
    bytes.extend([0x1B, 0xE4, 0x40]);
    bytes.extend([0; 3]);
    numbers(&mut bytes, &[4, 0, 0, 0]);
    bytes.push(0x1B);
    bytes
}

const VCF: &str = "##fileformat=VCFv4.3\n##contig=<ID=chr1,length=5000>\n##contig=<ID=chr2>\n\
    ##FILTER=<ID=PASS,Description=\"All filters passed\">\n\
    ##INFO=<ID=END,Number=1,Type=Integer,Description=\"End\">\n\
    ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n\
    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n\
    chr1\t10\trs1\tA\tC,G\t.\tPASS\t.\tGT\t0|1\t2/1\n\
    chr1\t20\t.\tACGT\tA\t50\t.\tEND=23\tGT\t.|.\t1\n\
    chr2\t30\t.\tT\t<DEL>,*\t.\t.\t.\tGT\t0/0\t1|2\n";

fn variants() -> Vec<Vec<u8>> {
    let mut reader = noodles_vcf::io::Reader::new(VCF.as_bytes());
    let header = reader.read_header().unwrap();
    let mut writer = bcf::io::Writer::from(Vec::new());
    writer.write_header(&header).unwrap();
    for record in reader.records() {
        writer.write_variant_record(&header, &record.unwrap()).unwrap();
    }
    let mut seeds = texts(&[
        VCF,
        "chrom\tpos\tref\talt\tid\nchr1\t10\tA\tC,G\trs1\nchr2\t20\tAC\tA\t.\n",
        "chr1\t9\t10\tA\tC\trs1\n",
        "chr1 rs5 0 11 A C\n",
    ]);
    seeds.push(writer.into_inner());
    seeds.push(bgzf(VCF.as_bytes()));
    seeds
}

/// The text of a VCF and its index, neither of them compressed: that is done where they are read.
fn tabix() -> Vec<Vec<u8>> {
    let bin = |id: u32, offset: Option<u64>| {
        let mut bytes = id.to_le_bytes().to_vec();
        bytes.extend(offset.iter().flat_map(|offset| offset.to_le_bytes()));
        bytes.extend(1u32.to_le_bytes());
        bytes.extend([0u64, 0xFFFF].iter().flat_map(|offset| offset.to_le_bytes()));
        bytes
    };
    let numbers = |all: &[i32]| -> Vec<u8> { all.iter().flat_map(|n| n.to_le_bytes()).collect() };
    // VCF: columns 1 and 2, comments with #, nothing to skip.
    let columns = numbers(&[2, 1, 2, 0, 35, 0, 10]);
    let names = b"chr1\0chr2\0";
    let tbi = [
        b"TBI\x01".to_vec(),
        numbers(&[2]),
        columns.clone(),
        names.to_vec(),
        numbers(&[1]),
        bin(4681, None),
        numbers(&[1, 0, 0]),
        numbers(&[0, 0]),
    ];
    let csi = [
        b"CSI\x01".to_vec(),
        numbers(&[14, 5, 28 + 10]),
        columns,
        names.to_vec(),
        numbers(&[2, 1]),
        bin(4681, Some(0)),
        numbers(&[0]),
    ];
    [tbi.concat(), csi.concat()].iter().map(|index| joined(&[VCF.as_bytes(), index])).collect()
}

fn npy_bytes<T: npyz::AutoSerialize + Copy>(shape: &[u64], values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut bytes).begin_nd().unwrap();
    writer.extend(values.iter().copied()).unwrap();
    writer.finish().unwrap();
    bytes
}

/// One-hot rows `[2, 4, 3]`.
fn one_hot() -> Vec<f32> {
    (0..24).map(|index| f32::from(u8::from(index / 3 % 4 == (index % 3 + index / 12) % 4))).collect()
}

fn npy() -> Vec<Vec<u8>> {
    vec![npy_bytes(&[2, 4, 3], &one_hot()), npy_bytes(&[2, 4, 3], &one_hot().map_to(|x| x as i8))]
}

trait MapTo {
    fn map_to<T>(self, f: impl Fn(f32) -> T) -> Vec<T>;
}

impl MapTo for Vec<f32> {
    fn map_to<T>(self, f: impl Fn(f32) -> T) -> Vec<T> {
        self.into_iter().map(f).collect()
    }
}

/// An array of texts, as NumPy writes them: UTF-32, padded with zeros.
fn npy_texts(texts: &[&str]) -> Vec<u8> {
    let width = texts.iter().map(|text| text.len()).max().unwrap_or(1);
    let mut header =
        format!("{{'descr': '<U{width}', 'fortran_order': False, 'shape': ({},), }}", texts.len());
    header.push_str(&" ".repeat((64 - (10 + header.len() + 1) % 64) % 64));
    header.push('\n');
    let mut bytes =
        [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    for text in texts {
        let letters = text.chars().map(|c| c as u32).chain(std::iter::repeat(0)).take(width);
        bytes.extend(letters.flat_map(u32::to_le_bytes));
    }
    bytes
}

fn zipped(files: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, FileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn npz() -> Vec<Vec<u8>> {
    let files = [
        ("sequences.npy", npy_bytes(&[2, 4, 3], &one_hot().map_to(|x| x as i8))),
        ("contributions.npy", npy_bytes(&[2, 4, 3], &one_hot())),
        ("chr.npy", npy_texts(&["chr1", "chr10"])),
        ("start.npy", npy_bytes(&[2], &[5i64, 90])),
        ("peak_id.npy", npy_bytes(&[2], &[0u32, 1])),
        ("peak_name.npy", npy_texts(&["a", "None"])),
    ];
    [CompressionMethod::Stored, CompressionMethod::Deflated].map(|method| zipped(&files, method)).into()
}

/// Writes an HDF5 file in the oldest generation of the format, whose headers have no checksums, and in the usual one.
fn hdf5_files(fill: impl Fn(&H5File)) -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.h5");
    let file = |options: rust_hdf5::H5FileOptions| {
        let file = options.create(&path).unwrap();
        fill(&file);
        file.close().unwrap();
        std::fs::read(&path).unwrap()
    };
    vec![file(H5File::options().libver(LibverBound::Earliest)), file(H5File::options())]
}

fn put<T: rust_hdf5::H5Type>(group: &H5Group, name: &str, shape: &[usize], values: &[T]) {
    group.new_dataset::<T>().shape(shape).create(name).unwrap().write_raw(values).unwrap();
}

fn hdf5() -> Vec<Vec<u8>> {
    let modisco = hdf5_files(|file| {
        let pattern = file.create_group("pos_patterns").unwrap().create_group("pattern_0").unwrap();
        for name in ["sequence", "contrib_scores", "hypothetical_contribs"] {
            put(&pattern, name, &[3, 4], &one_hot()[..12].to_vec().map_to(f64::from));
        }
        let seqlets = pattern.create_group("seqlets").unwrap();
        for (name, value) in [("start", 1i64), ("end", 4), ("example_idx", 0), ("is_revcomp", 0)] {
            put(&seqlets, name, &[1], &[value]);
        }
    });
    let chrombpnet = hdf5_files(|file| {
        for name in ["raw", "shap"] {
            let group = file.create_group(name).unwrap();
            let dataset = group.new_dataset::<f32>().shape([2, 4, 3]).chunk(&[1, 4, 3]).deflate(6);
            dataset.create("seq").unwrap().write_raw(&one_hot()).unwrap();
        }
    });
    let keras = hdf5_files(|file| {
        let layer = |class: &str, name: &str, more: Value| {
            let mut config = json!({ "name": name });
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "class_name": class, "config": config })
        };
        let model = json!({ "class_name": "Sequential", "config": { "layers": [
            layer("Conv1D", "c", json!({ "batch_input_shape": [null, 12, 4], "padding": "same", "strides": [1],
                "dilation_rate": [1], "activation": "relu" })),
            layer("GlobalMaxPooling1D", "g", json!({})),
            layer("Dense", "d", json!({ "activation": "sigmoid" })),
        ] } });
        file.set_attr_string("model_config", &model.to_string()).unwrap();
        let group = file.create_group("model_weights").unwrap();
        for (name, kernel, bias) in [("c", &[3, 4, 2][..], 2), ("d", &[2, 1], 1)] {
            let group = group.create_group(name).unwrap();
            put(&group, "kernel:0", kernel, &noise(kernel.iter().product()));
            put(&group, "bias:0", &[bias], &noise(bias));
        }
    });
    [modisco, chrombpnet, keras].concat()
}

fn motifs() -> Vec<Vec<u8>> {
    texts(&[
        "MEME version 4\n\nALPHABET= ACGT\n\nBackground letter frequencies:\nA 0.3 C 0.2 G 0.2 T 0.3\n\n\
         MOTIF M1 CTCF\nletter-probability matrix: alength= 4 w= 2 nsites= 12 E= 0\n0.7 0.1 0.1 0.1\n0 0 1 0\n\n\
         MOTIF M2\nletter-probability matrix:\n0.25 0.25 0.25 0.25\n0.97 0.01 0.01 0.01\n",
        ">MA1 GATA\nA  [ 1 2 9 ]\nC  [ 0 0 1 ]\nG  [ 9 1 0 ]\nT  [ 0 7 0 ]\n",
        ">ACGT\tname/x\t6.5\n0.9\t0.03\t0.03\t0.04\n0.1\t0.1\t0.1\t0.7\n",
        ">m\n1 2\n3 4\n5 6\n7 8\n",
    ])
}

/// Numbers without meaning.
fn noise(count: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 37 + 11) % 19) as f32 / 19.0 - 0.4).collect()
}

fn safetensors_bytes(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let values: BTreeMap<String, (Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape)| {
            let bytes = noise(shape.iter().product()).iter().flat_map(|x| x.abs().to_le_bytes()).collect();
            (name.to_string(), (shape.to_vec(), bytes))
        })
        .collect();
    let views = values.iter().map(|(name, (shape, bytes))| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// The pickle of one tensor `w` [2, 2] of floats in storage `0`, by its operations.
pub fn pickle_of_a_tensor() -> Vec<u8> {
    let text = |text: &str| [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let parts: Vec<Vec<u8>> = vec![
        b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(".to_vec(),
        text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        b"K\x04tQK\x00K\x02K\x02\x86K\x02K\x01\x86\x89h\x00)RtRu.".to_vec(),
    ];
    parts.concat()
}

/// A zip archive as PyTorch 1.6 and later write it.
pub fn torch_zip(pickle: &[u8]) -> Vec<u8> {
    let storage = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let files = [("archive/data.pkl", pickle.to_vec()), ("archive/data/0", storage)];
    zipped(&files, CompressionMethod::Stored)
}

/// A file as PyTorch wrote it before.
pub fn torch_legacy(pickle: &[u8]) -> Vec<u8> {
    let mut file =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    file.extend(pickle);
    file.extend(b"\x80\x02]X\x01\x00\x00\x000a.");
    file.extend(4u64.to_le_bytes());
    file.extend([1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()));
    file
}

fn weights() -> Vec<Vec<u8>> {
    vec![
        safetensors_bytes(&[("layer.weight", &[2, 3]), ("layer.bias", &[2])]),
        torch_zip(&pickle_of_a_tensor()),
        torch_legacy(&pickle_of_a_tensor()),
    ]
}

/// The vocabulary of DNABERT's 3-mers.
fn vocabulary() -> String {
    let mut text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n".to_string();
    for a in "ATCG".chars() {
        for b in "ATCG".chars() {
            "ATCG".chars().for_each(|c| text.extend([a, b, c, '\n']));
        }
    }
    text
}

fn tokenizer() -> Vec<Vec<u8>> {
    let whole = |model: Value, normalizer: Value, before: Value| {
        let special = |id: u32, text: &str| {
            json!({ "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
        };
        json!({ "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [special(0, "[UNK]"), special(1, "[CLS]")],
            "normalizer": normalizer, "pre_tokenizer": before,
            "post_processor": { "type": "TemplateProcessing",
                "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
                "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [1], "tokens": ["[CLS]"] } } },
            "decoder": null, "model": model })
        .to_string()
        .into_bytes()
    };
    let vocabulary_of = json!({ "[UNK]": 0, "[CLS]": 1, "A": 2, "C": 3, "G": 4, "T": 5, "AC": 6, "ACG": 7 });
    vec![
        whole(
            json!({ "type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary_of,
                "merges": ["A C", "AC G"] }),
            json!(null),
            json!({ "type": "Whitespace" }),
        ),
        whole(
            json!({ "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 1000, "vocab": vocabulary_of }),
            json!({ "type": "Replace", "pattern": { "Regex": "N+" }, "content": "" }),
            json!({ "type": "Split", "pattern": { "Regex": "[ACGT]{3}" }, "behavior": "Isolated", "invert": false }),
        ),
        whole(
            json!({ "type": "Unigram", "unk_id": 0, "byte_fallback": false,
                "vocab": [["[UNK]", 0.0], ["[CLS]", 0.0], ["A", -1.0], ["C", -1.5], ["AC", -1.2]] }),
            json!({ "type": "Sequence", "normalizers": [{ "type": "Lowercase" }, { "type": "NFKC" }] }),
            json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true }),
        ),
        vocabulary().into_bytes(),
    ]
}

fn model(config: Value, tensors: &[(&str, &[usize])], vocabulary: &str) -> Vec<u8> {
    joined(&[config.to_string().as_bytes(), &safetensors_bytes(tensors), vocabulary.as_bytes()])
}

fn config() -> Vec<Vec<u8>> {
    let vocabulary = vocabulary();
    let sequential = json!({ "architectures": ["SequentialCnn"], "window": 24, "labels": ["x"], "layers": [
        { "op": "conv1d", "in_": 4, "out": 2, "k": 3, "padding": "same", "dilation": 2 }, { "op": "relu" },
        { "op": "maxpool1d", "k": 2, "stride": 2 }, { "op": "flatten" }, { "op": "linear", "in_": 24, "out": 1 },
        { "op": "sigmoid" }] });
    let bpnet = json!({ "architectures": ["BPNet"], "window": 40, "trimming": 4 });
    let pooled = json!({ "architectures": ["DeepBindPublished"], "pool_size": 3 });
    let fcnn = json!({ "architectures": ["ResidualFcnn"], "encoder": ".", "minimum": -1.0, "maximum": 1.0 });
    let mut seeds = vec![
        model(
            sequential,
            &[("0.weight", &[2, 4, 3]), ("0.bias", &[2]), ("4.weight", &[1, 24]), ("4.bias", &[1])],
            "",
        ),
        model(
            bpnet,
            &[
                ("iconv.weight", &[2, 4, 3]),
                ("iconv.bias", &[2]),
                ("rconvs.0.weight", &[2, 2, 3]),
                ("rconvs.0.bias", &[2]),
                ("fconv.weight", &[1, 2, 3]),
                ("fconv.bias", &[1]),
                ("linear.weight", &[1, 2]),
                ("linear.bias", &[1]),
            ],
            "",
        ),
        model(
            pooled,
            &[
                ("conv.weight", &[2, 4, 3]),
                ("conv.bias", &[2]),
                ("dense.0.weight", &[1, 2]),
                ("dense.0.bias", &[1]),
            ],
            "",
        ),
        model(fcnn, &[("fc1.weight", &[2, 8])], ""),
    ];
    seeds.extend([bert(&vocabulary), esm(&vocabulary), llama(&vocabulary)]);
    seeds
}

fn bert(vocabulary: &str) -> Vec<u8> {
    let config = json!({ "architectures": ["BertModel"], "num_hidden_layers": 1, "num_attention_heads": 2 });
    let layer = |part: &str| format!("encoder.layer.0.{part}");
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![69, 4]),
        ("embeddings.position_embeddings.weight".into(), vec![64, 4]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, 4]),
    ];
    for (name, shape) in [
        ("attention.self.query", vec![4, 4]),
        ("attention.self.key", vec![4, 4]),
        ("attention.self.value", vec![4, 4]),
        ("attention.output.dense", vec![4, 4]),
        ("intermediate.dense", vec![8, 4]),
        ("output.dense", vec![4, 8]),
    ] {
        tensors.push((layer(&format!("{name}.bias")), vec![shape[0]]));
        tensors.push((layer(&format!("{name}.weight")), shape));
    }
    let norms =
        [layer("attention.output.LayerNorm"), layer("output.LayerNorm"), "embeddings.LayerNorm".into()];
    for (norm, part) in norms.iter().flat_map(|norm| [(norm, "weight"), (norm, "bias")]) {
        tensors.push((format!("{norm}.{part}"), vec![4]));
    }
    of_owned(config, &tensors, vocabulary)
}

fn esm(vocabulary: &str) -> Vec<u8> {
    let config = json!({ "architectures": ["EsmModel"], "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 66, "layer_norm_eps": 1e-5, "position_embedding_type": "rotary" });
    let layer = |part: &str| format!("encoder.layer.0.{part}");
    let mut tensors = vec![("embeddings.word_embeddings.weight".to_string(), vec![69, 4])];
    for (name, shape) in [
        ("attention.self.query", vec![4, 4]),
        ("attention.self.key", vec![4, 4]),
        ("attention.self.value", vec![4, 4]),
        ("attention.output.dense", vec![4, 4]),
        ("intermediate.dense", vec![8, 4]),
        ("output.dense", vec![4, 4]),
    ] {
        tensors.push((layer(&format!("{name}.bias")), vec![shape[0]]));
        tensors.push((layer(&format!("{name}.weight")), shape));
    }
    let norms = [layer("attention.LayerNorm"), layer("LayerNorm"), "encoder.emb_layer_norm_after".into()];
    for (norm, part) in norms.iter().flat_map(|norm| [(norm, "weight"), (norm, "bias")]) {
        tensors.push((format!("{norm}.{part}"), vec![4]));
    }
    of_owned(config, &tensors, vocabulary)
}

fn llama(vocabulary: &str) -> Vec<u8> {
    let config = json!({ "architectures": ["LlamaModel"], "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "rope_theta": 10000.0 });
    let tensors: Vec<(String, Vec<usize>)> = [
        ("embed_tokens.weight", vec![69, 4]),
        ("norm.weight", vec![4]),
        ("layers.0.input_layernorm.weight", vec![4]),
        ("layers.0.post_attention_layernorm.weight", vec![4]),
        ("layers.0.self_attn.q_proj.weight", vec![4, 4]),
        ("layers.0.self_attn.k_proj.weight", vec![2, 4]),
        ("layers.0.self_attn.v_proj.weight", vec![2, 4]),
        ("layers.0.self_attn.o_proj.weight", vec![4, 4]),
        ("layers.0.mlp.gate_proj.weight", vec![8, 4]),
        ("layers.0.mlp.up_proj.weight", vec![8, 4]),
        ("layers.0.mlp.down_proj.weight", vec![4, 8]),
    ]
    .map(|(name, shape)| (name.to_string(), shape))
    .into();
    of_owned(config, &tensors, vocabulary)
}

fn of_owned(config: Value, tensors: &[(String, Vec<usize>)], vocabulary: &str) -> Vec<u8> {
    let borrowed: Vec<(&str, &[usize])> =
        tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    model(config, &borrowed, vocabulary)
}

/// Writes all seeds of all formats to `directory/FORMAT/seed_N`.
pub fn write(directory: &Path) {
    for (format, _) in super::formats::FORMATS {
        let folder = directory.join(format);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in of(format).iter().enumerate() {
            std::fs::write(folder.join(format!("seed_{number}")), seed).unwrap();
        }
    }
}
