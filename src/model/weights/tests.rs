//! Files are built byte by byte: what PyTorch writes, and what an attacker would.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use npyz::zip::{CompressionMethod, ZipWriter, write::FileOptions};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A pickle under construction, protocol 2.
#[derive(Clone)]
struct Script(Vec<u8>);

impl Script {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }
    fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
    fn text(self, text: &str) -> Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }
    fn int(self, int: i32) -> Self {
        self.op(b"J").op(&int.to_le_bytes())
    }
    fn ints(self, ints: &[i32]) -> Self {
        ints.iter().fold(self.op(b"("), |script, &int| script.int(int)).op(b"t")
    }
    fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }
    /// An `OrderedDict` whose entries `fill` puts there.
    fn dict(self, fill: impl FnOnce(Self) -> Self) -> Self {
        fill(self.global("collections", "OrderedDict").op(b")R(")).op(b"u")
    }
    /// A tensor of `size` numbers in storage `key`.
    fn tensor(self, class: &str, key: &str, size: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .global("torch", class)
            .text(key)
            .text("cpu")
            .int(size)
            .op(b"tQ")
            .int(offset)
            .ints(shape)
            .ints(strides)
            .op(b"\x89")
            .dict(|script| script)
            .op(b"tR")
    }
    fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn saved(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (directory, path)
}

/// An archive as PyTorch 1.6 and later write it.
fn zip_archive(pickle: &[u8], storages: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = FileOptions::default().compression_method(method);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(pickle).unwrap();
    for (key, bytes) in storages {
        zip.start_file(format!("archive/data/{key}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A file as PyTorch wrote it before 1.6: `storages` with their numbers of elements.
fn legacy_file(pickle: &[u8], storages: &[(&str, u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Script::new().op(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19").stop();
    file.extend(Script::new().op(b"M\xe9\x03").stop());
    let system = Script::new().op(b"}(").text("protocol_version").op(b"M\xe9\x03").text("little_endian");
    file.extend(system.op(b"\x88").text("type_sizes").op(b"}(").text("int").op(b"K\x04uu").stop());
    file.extend(pickle);
    let keys = storages.iter().fold(Script::new().op(b"]("), |script, (key, ..)| script.text(key));
    file.extend(keys.op(b"e").stop());
    for (_, count, bytes) in storages {
        file.extend(count.to_le_bytes());
        file.extend(bytes);
    }
    file
}

/// Two tensors, a transposed view with an offset in the second storage.
fn checkpoint() -> Vec<u8> {
    let script = Script::new().dict(|script| {
        let script = script.text("layer.weight").tensor("FloatStorage", "0", 4, 0, &[2, 2], &[2, 1]);
        script.text("layer.bias").tensor("HalfStorage", "1", 7, 1, &[2, 3], &[1, 2])
    });
    // The attributes of a state dict.
    script.op(b"}").text("_metadata").dict(|script| script).op(b"sb").stop()
}

fn halves() -> Vec<u8> {
    (0..7).flat_map(|value| half::f16::from_f32(value as f32).to_le_bytes()).collect()
}

fn check_checkpoint(file: &[u8]) {
    let (_directory, path) = saved("pytorch_model.bin", file);
    let weights = Weights::read(&path).unwrap();
    assert_eq!(weights.get("layer.weight", &[2, 2]).unwrap(), [0.0, 1.5, -2.0, 3.0]);
    assert_eq!(weights.get("layer.bias", &[2, 3]).unwrap(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    assert_eq!(weights.tensors().len(), 2);
    assert_eq!(weights.digest(), provenance::hexadecimal(&Sha256::digest(file)));
}

#[test]
fn both_formats_of_pytorch_give_the_same_views() {
    let floats = bytes_of(&[0.0, 1.5, -2.0, 3.0]);
    let zip = [("0", floats.clone()), ("1", halves())];
    check_checkpoint(&zip_archive(&checkpoint(), &zip, CompressionMethod::Stored));
    // The order of storages is that of their keys in the file, not that of the tensors.
    check_checkpoint(&legacy_file(&checkpoint(), &[("1", 7, halves()), ("0", 4, floats)]));
}

#[test]
fn every_number_format_is_converted_and_whole_numbers_are_no_weights() {
    let values = [1.0, -0.5, 65504.0];
    let storages: [(&str, Vec<u8>); 5] = [
        ("FloatStorage", values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect()),
        ("DoubleStorage", values.iter().flat_map(|&v: &f64| v.to_le_bytes()).collect()),
        ("HalfStorage", values.iter().flat_map(|&v| half::f16::from_f64(v).to_le_bytes()).collect()),
        ("BFloat16Storage", values.iter().flat_map(|&v| half::bf16::from_f64(v).to_le_bytes()).collect()),
        ("LongStorage", values.iter().flat_map(|&v| (v as i64).to_le_bytes()).collect()),
    ];
    let pickle = Script::new().dict(|script| {
        storages.iter().fold(script, |s, (class, _)| s.text(class).tensor(class, class, 3, 0, &[3], &[1]))
    });
    let file = zip_archive(&pickle.stop(), &storages, CompressionMethod::Stored);
    let (_directory, path) = saved("m.pth", &file);
    let weights = Weights::read(&path).unwrap();
    for (class, _) in &storages[..3] {
        assert_eq!(weights.get(class, &[3]).unwrap(), [1.0, -0.5, 65504.0], "{class}");
    }
    assert_eq!(weights.get("BFloat16Storage", &[3]).unwrap(), [1.0, -0.5, 65536.0]);
    let message = weights.get("LongStorage", &[3]).unwrap_err().to_string();
    assert!(message.contains("`LongStorage` holds whole numbers"), "{message}");
    assert_eq!(weights.dtypes(), [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64]);
}

fn message(pickle: &[u8]) -> String {
    let file = zip_archive(pickle, &[("0", bytes_of(&[1.0; 4]))], CompressionMethod::Stored);
    let (_directory, path) = saved("evil.bin", &file);
    let message = Weights::read(&path).unwrap_err().to_string();
    assert!(message.contains("evil.bin"), "{message}");
    // The other format is read by the same machine.
    let (_directory, path) = saved("evil.bin", &legacy_file(pickle, &[("0", 4, bytes_of(&[1.0; 4]))]));
    Weights::read(&path).unwrap_err();
    message
}

#[test]
fn a_pickle_that_wants_to_run_something_is_refused_by_name() {
    let script = Script::new().global("posix", "system").op(b"(").text("touch /tmp/owned").op(b"tR");
    assert!(message(&script.clone().stop()).contains("`posix.system`"));
    // The same through the stack, which newer protocols do.
    let script = Script::new().text("builtins").text("eval").op(b"\x93(").text("1").op(b"tR");
    assert!(message(&script.stop()).contains("`builtins.eval`"));
    // Beside tensors that are fine.
    let script = Script::new().dict(|script| {
        let script = script.text("w").tensor("FloatStorage", "0", 4, 0, &[4], &[1]);
        script.text("x").global("os", "system").op(b"(").text("id").op(b"tR")
    });
    assert!(message(&script.stop()).contains("`os.system`"));
    // By operations that look up or build instances.
    assert!(message(&Script::new().op(b"ios\nsystem\n").stop()).contains("operation 0x69"));
    assert!(message(&Script::new().text("x").op(b"\x82\x01").stop()).contains("operation"));
}

#[test]
fn a_module_is_read_without_its_classes() {
    let module = |script: Script, class: &str, fill: &dyn Fn(Script) -> Script| {
        fill(script.global("net", class).op(b")\x81}(")).op(b"ub")
    };
    let pickle = module(Script::new(), "Net", &|script| {
        let script = script.text("trimming").int(7).text("_modules").dict(|script| {
            module(script.text("conv"), "Conv1d", &|script| {
                script.text("_parameters").dict(|script| {
                    let script = script.text("weight").global("torch._utils", "_rebuild_parameter").op(b"(");
                    script.tensor("FloatStorage", "0", 4, 1, &[3], &[1]).op(b"\x88").dict(|s| s).op(b"tR")
                })
            })
        });
        script.text("_parameters").dict(|script| script)
    });
    let storages = [("0", bytes_of(&[1.0, 2.0, 3.0, 4.0]))];
    let (_directory, path) =
        saved("net.torch", &zip_archive(&pickle.clone().stop(), &storages, CompressionMethod::Stored));
    let (weights, numbers) = Weights::read_module(&path).unwrap();
    assert_eq!(weights.get("conv.weight", &[3]).unwrap(), [2.0, 3.0, 4.0]);
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), [("trimming".to_string(), 7)]);
    assert!(Weights::read(&path).unwrap_err().to_string().contains("`net.Net`"));
}

/// Before 1.6 PyTorch saved the source code of a module beside its class.
#[test]
fn an_old_module_is_read_without_its_code() {
    let class = Script::new().op(b"(").text("module").global("net", "Net").text("net.py").text("import os");
    let pickle = class
        .op(b"tQ)\x81}(")
        .text("_parameters")
        .dict(|script| script.text("w").tensor("FloatStorage", "0", 4, 0, &[2, 2], &[2, 1]));
    let file = legacy_file(&pickle.op(b"ub").stop(), &[("0", 4, bytes_of(&[1.0, 2.0, 3.0, 4.0]))]);
    let (_directory, path) = saved("net.pt", &file);
    let (weights, _) = Weights::read_module(&path).unwrap();
    assert_eq!(weights.get("w", &[2, 2]).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert!(Weights::read(&path).unwrap_err().to_string().contains("`net.Net`"));
}

#[test]
fn nesting_and_sharing_cost_neither_stack_nor_time() {
    let deep = (0..1_000_000).fold(Script::new().op(b")"), |script, _| script.op(b"\x85"));
    assert!(message(&deep.stop()).contains("no tensor"));
    let lists = (0..1_000_000).fold(Script::new(), |script, _| script.op(b"]"));
    message(&lists.op(&[b'a'; 999_999]).stop());
    // Forty dictionaries, each of which holds the one before twice: 2^40 paths.
    let bomb = (0..40u8).fold(Script::new().op(b"}q\xff"), |script, _| {
        script.op(b"}(").text("a").op(b"h\xff").text("b").op(b"h\xff").op(b"uq\xff")
    });
    assert!(message(&bomb.stop()).contains("names of more than 64 MiB"));
    // A dictionary in itself.
    let ring = Script::new().op(b"}q\x00(").text("a").op(b"h\x00u");
    assert!(message(&ring.stop()).contains("nested too deep"));
    // A place in the memo costs what it holds, whatever its number.
    let memo = Script::new().op(b"}r\xff\xff\xff\xff0");
    assert!(message(&memo.stop()).contains("operation 0x30"));
}

#[test]
fn sizes_that_the_file_does_not_have_are_refused_before_anything_is_allocated() {
    for (code, width) in [(b"X", 4), (b"B", 4), (b"T", 4), (b"\x8d", 8), (b"\x8e", 8), (b"\x8a", 1)] {
        let message = message(&Script::new().op(code).op(&vec![0xFF; width]).stop());
        assert!(message.contains("ends in the middle"), "{message}");
    }
    let tensor = |offset, shape: &[i32], strides: &[i32]| {
        let script = Script::new()
            .dict(|script| script.text("w").tensor("FloatStorage", "0", 4, offset, shape, strides));
        message(&script.stop())
    };
    let big = i32::MAX;
    for (offset, shape, strides) in [
        (0, &[5][..], &[1][..]),
        (4, &[1], &[1]),
        (-1, &[1], &[1]),
        (0, &[2], &[-1]),
        (0, &[2, 2], &[3, 1]),
        (0, &[big, big, big, big], &[1, 1, 1, 1]),
        (0, &[2, 2], &[big, big]),
        // Repeated numbers: a whole file from one.
        (0, &[big], &[0]),
        (0, &[1], &[]),
    ] {
        let message = tensor(offset, shape, strides);
        assert!(message.contains("tensor `w`"), "{message}");
    }
    let missing = Script::new().dict(|s| s.text("w").tensor("FloatStorage", "9", 4, 0, &[4], &[1]));
    assert!(message(&missing.stop()).contains("storage `9` is missing"));
}

/// One shape of a million axes could be that of a million tensors; one name could be in a million others.
#[test]
fn shapes_with_more_axes_and_names_longer_than_any_are_refused() {
    let pickle = |name: &str, axes: usize| {
        let script = Script::new().dict(|script| {
            script.text(name).tensor("FloatStorage", "0", 4, 0, &vec![1; axes], &vec![1; axes])
        });
        script.stop()
    };
    let read = |pickle: &[u8]| {
        let file = zip_archive(pickle, &[("0", bytes_of(&[1.0; 4]))], CompressionMethod::Stored);
        let (_directory, path) = saved("w.pth", &file);
        Weights::read(&path).map(|weights| weights.tensors().len())
    };
    assert_eq!(read(&pickle(&"w".repeat(1024), 16)).unwrap(), 1);
    assert!(message(&pickle("w", 17)).contains("tensor `w`: its description"));
    assert!(message(&pickle(&"w".repeat(1025), 1)).contains("longer than 1024 letters"));
}

#[test]
fn a_number_that_changed_in_an_archive_is_an_error_unless_it_has_no_checksums() {
    let storages = [("0", bytes_of(&[1.0, 2.0, 3.0, 4.0]))];
    let pickle = Script::new().dict(|s| s.text("w").tensor("FloatStorage", "0", 4, 0, &[4], &[1])).stop();
    let mut file = zip_archive(&pickle, &storages, CompressionMethod::Stored);
    let place = file.windows(16).position(|bytes| bytes == storages[0].1).unwrap();
    file[place] ^= 1;
    let (_directory, path) = saved("w.pth", &file);
    let error = Weights::read(&path).unwrap_err().to_string();
    assert!(error.contains("data/0") && error.contains("checksum"), "{error}");
    // PyTorch can be told to leave them out.
    let sum = {
        let mut sum = flate2::Crc::new();
        sum.update(&storages[0].1);
        sum.sum().to_le_bytes()
    };
    let places: Vec<usize> = (0..file.len() - 4).filter(|&at| file[at..at + 4] == sum).collect();
    places.iter().for_each(|&at| file[at..at + 4].fill(0));
    std::fs::write(&path, &file).unwrap();
    assert_eq!(Weights::read(&path).unwrap().get("w", &[4]).unwrap()[1..], [2.0, 3.0, 4.0]);
}

#[test]
fn a_compressed_or_cut_archive_is_refused() {
    let storages = [("0", vec![0; 1 << 20]), ("1", halves())];
    let file = zip_archive(&checkpoint(), &storages, CompressionMethod::Deflated);
    let (_directory, path) = saved("m.bin", &file);
    assert!(Weights::read(&path).unwrap_err().to_string().contains("is compressed"));
    let legacy = legacy_file(&checkpoint(), &[("0", 4, bytes_of(&[0.0; 4])), ("1", 7, halves())]);
    for length in 0..legacy.len() {
        let (_directory, path) = saved("m.bin", &legacy[..length]);
        Weights::read(&path).unwrap_err();
    }
    let huge = legacy_file(&checkpoint(), &[("0", u64::MAX / 2, bytes_of(&[0.0; 4])), ("1", 7, halves())]);
    let (_directory, path) = saved("m.bin", &huge);
    assert!(Weights::read(&path).unwrap_err().to_string().contains("storage 0 ends beyond the file"));
}

proptest! {
    /// Damage gives an error or other numbers, never a panic.
    #[test]
    fn no_damage_makes_it_panic(place in 0usize..2000, byte: u8, legacy: bool) {
        let floats = bytes_of(&[0.0, 1.5, -2.0, 3.0]);
        let mut file = if legacy {
            legacy_file(&checkpoint(), &[("0", 4, floats), ("1", 7, halves())])
        } else {
            let storages = [("0", floats), ("1", halves())];
            zip_archive(&checkpoint(), &storages, CompressionMethod::Stored)
        };
        let place = place % file.len();
        file[place] = byte;
        let (_directory, path) = saved("m.bin", &file);
        if let Ok(weights) = Weights::read(&path) {
            weights.tensors().values().for_each(|tensor| drop(tensor.read()));
        }
    }

    /// A pickle of arbitrary operations ends, by itself or with an error.
    #[test]
    fn arbitrary_operations_end(codes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = pickle::Pickle::read(&codes, Globals::Any);
    }
}

fn write_safetensors(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, _, values)| bytes_of(values)).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = ::safetensors::tensor::TensorView::new(::safetensors::Dtype::F32, shape.to_vec(), bytes);
        (*name, view.unwrap())
    });
    std::fs::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
}

fn sharded(map: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    write_safetensors(&path("model-00001-of-00002.safetensors"), &[("a", &[2], &[1.0, 2.0])]);
    write_safetensors(&path("model-00002-of-00002.safetensors"), &[("b", &[1], &[3.0]), ("c", &[1], &[4.0])]);
    let index = format!(r#"{{"metadata": {{"total_size": 16}}, "weight_map": {map}}}"#);
    std::fs::write(path("model.safetensors.index.json"), index).unwrap();
    directory
}

const WHOLE: &str = r#"{"c": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors",
                        "b": "model-00002-of-00002.safetensors"}"#;

#[test]
fn shards_are_one_model_and_their_digest_is_that_of_all_bytes_in_order() {
    let directory = sharded(WHOLE);
    let weights = Weights::open(directory.path()).unwrap();
    assert_eq!(weights.tensors().keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(weights.get("c", &[1]).unwrap(), [4.0]);
    let files = files(directory.path()).unwrap();
    let bytes: Vec<u8> = files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!((files.len(), weights.digest()), (2, &*provenance::hexadecimal(&Sha256::digest(bytes))));
}

#[test]
fn an_index_that_is_not_that_of_the_shards_is_refused() {
    for (map, expected) in [
        (WHOLE.replace("\"c\"", "\"d\""), "has the tensor `c`"),
        (WHOLE.replace("\"c\"", "\"d\": \"model-00001-of-00002.safetensors\", \"c\""), "`d` should be in"),
        (WHOLE.replace("00001-of", "00003-of"), "model-00003-of-00002.safetensors"),
        (WHOLE.replace("model-00001", "../model-00001"), "no name of a file"),
        (WHOLE.replace("model-00001", "/model-00001"), "no name of a file"),
    ] {
        let directory = sharded(&map);
        let message = Weights::open(directory.path()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(Weights::open(empty.path()).unwrap_err().to_string().contains("pytorch_model.bin"));
}

fn named(names: &[&str]) -> Weights {
    let array = || Array { shape: vec![1], values: vec![0.0] };
    Weights::collect(Path::new("m"), names.iter().map(|name| (name.to_string(), array())).collect())
}

fn names(weights: &Weights) -> Vec<&str> {
    weights.tensors().keys().map(String::as_str).collect()
}

#[test]
fn prefixes_of_wrappers_go_and_those_of_models_stay() {
    let uniform = |given: &[&str], expected: &[&str]| assert_eq!(names(&named(given)), expected);
    uniform(&["module.a.w", "module.b"], &["a.w", "b"]);
    uniform(&["_orig_mod.module.model.a", "_orig_mod.module.model.b"], &["a", "b"]);
    uniform(&["module.a", "b"], &["b", "module.a"]);
    uniform(
        &["model.embed_tokens.weight", "model.norm.weight"],
        &["model.embed_tokens.weight", "model.norm.weight"],
    );
    uniform(&["model.x", "lm_head.weight"], &["lm_head.weight", "model.x"]);
    uniform(&["e.LayerNorm.gamma", "e.LayerNorm.beta"], &["e.LayerNorm.bias", "e.LayerNorm.weight"]);
    uniform(&["scale.gamma"], &["scale.gamma"]);
    uniform(&["norm.gamma", "norm.weight"], &["norm.gamma", "norm.weight"]);
}

#[test]
fn a_base_model_has_one_name_with_and_without_its_prefix() {
    let whole = named(&["bert.encoder.w", "bert.pooler.w", "classifier.w", "bert.pooler.inv_freq"]);
    let base = named(&["encoder.w", "pooler.w"]);
    assert_eq!(names(&whole.under("bert.")), ["encoder.w", "pooler.inv_freq", "pooler.w"]);
    assert_eq!(names(&base.under("bert.")), ["encoder.w", "pooler.w"]);
    let message = whole.under("bert.").get("x", &[1]).unwrap_err().to_string();
    assert!(message.contains("no tensor `bert.x`"), "{message}");
    assert_eq!(whole.under("bert.").first(&["decoder.w", "encoder.w"]).unwrap(), "encoder.w");
    let message = base.first(&["decoder.w", "embedding.w"]).unwrap_err().to_string();
    assert!(message.contains("`decoder.w` or `embedding.w`"), "{message}");
}

#[test]
fn what_no_model_asked_for_is_told_through_any_view() {
    let weights = named(&["bert.a", "bert.b", "bert.c.inv_freq", "head"]);
    assert_eq!(weights.unused(), ["bert.a", "bert.b", "head"]);
    weights.under("bert.").get("a", &[1]).unwrap();
    weights.shape::<1>("head").unwrap();
    assert_eq!(weights.unused(), ["bert.b"]);
}

#[test]
fn f32_numbers_are_not_copied_from_a_file() {
    let directory = sharded(WHOLE);
    let weights = Weights::open(directory.path()).unwrap();
    assert!(matches!(weights.read_tensor("a", &[2]).unwrap(), Cow::Borrowed(_)));
}

#[test]
fn a_safetensors_header_of_any_length_is_no_pickle() {
    for padding in 0..300 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let name = "x".repeat(padding + 1);
        write_safetensors(&path, &[(&name, &[1], &[2.0])]);
        assert_eq!(Weights::read(&path).unwrap().get(&name, &[1]).unwrap(), [2.0]);
    }
}

/// The authors save the state dict among their arguments and the module itself.
#[test]
fn the_checkpoint_of_sigtfb_holds_its_state_dict_among_other_things() {
    let Some(folder) = crate::testing::shared("golden/models/sigtfb") else { return };
    let (checkpoint, _) = Weights::read_module(&folder.join("stage1_like_author.pth.tar")).unwrap();
    let expected = Weights::read(&folder.join("stage1.safetensors")).unwrap();
    use super::super::testing::arrays;
    assert_eq!(arrays(&checkpoint), arrays(&expected));
}
