//! Weights files of other programs → model directories. Nothing in a file is ever executed.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use candle_core::Device;
use safetensors::View;
use serde_json::{Value, json};

use super::config::Config;
use super::weights::{Dtype, Stored, Weights};
use super::{FAMILIES, architectures, build, residual_fcnn};
use crate::error::{Error, InFile, Result};
use crate::output;

mod chrombpnet;
mod directory;
mod keras;

pub use directory::write_directory;

/// What a conversion may need to be told.
#[derive(Clone, Debug, Default)]
pub struct Hints<'a> {
    /// The architecture, where tensors alone leave it open.
    pub architecture: Option<&'a str>,
    /// The `model.json` that belongs to a Keras file of weights only.
    pub keras_json: Option<&'a Path>,
    /// The names of the classes.
    pub labels: Option<Vec<String>>,
    /// The model whose embeddings a network on pairs reads, as seen from the new directory.
    pub encoder: Option<&'a str>,
    /// The ends of those embeddings at training.
    pub range: Option<residual_fcnn::Range>,
}

/// A model as nyx writes it.
#[derive(Clone, Debug)]
pub struct Converted {
    /// What `config.json` will say.
    pub config: Config,
    /// The tensors by name.
    pub weights: Weights,
}

/// Reads a weights file of PyTorch, Keras (HDF5) or safetensors and finds its architecture.
///
/// # Errors
///
/// When the file is of another kind, no architecture fits its tensors, or several do.
pub fn read(path: &Path, hints: &Hints) -> Result<Converted> {
    let mut magic = [0; 10];
    let mut file = File::open(path).in_file(path)?;
    let length = file.read(&mut magic).in_file(path)?;
    let mut converted = match &magic[..length] {
        [0x89, b'H', b'D', b'F', ..] => keras::read(path, hints.keras_json)?,
        [_, _, _, _, _, _, _, _, b'{', ..] => from_safetensors(path, hints)?,
        [b'P', b'K', ..] | [0x80, ..] => from_torch(path, hints)?,
        _ => {
            let message = "neither a PyTorch file (.pth), nor Keras HDF5 (.h5), nor safetensors";
            return Err(Error::data(message)).in_file(path);
        }
    };
    let found = converted.config.architecture().to_string();
    if let Some(wanted) = hints.architecture.filter(|wanted| *wanted != found) {
        return Err(Error::data(format!("it says it is a {found}, not a {wanted}"))).in_file(path);
    }
    if let Some(labels) = &hints.labels {
        converted.config.labels = Some(labels.clone());
    }
    if found == residual_fcnn::NAME {
        let graph = residual_fcnn::Graph::load(&converted.config, &converted.weights).in_file(path)?;
        converted.config.labels = Some(converted.config.labels(graph.outputs()).in_file(path)?);
        residual_fcnn::complete(&mut converted.config, hints.encoder, hints.range, path)?;
        return Ok(converted);
    }
    let model = build(&converted.config, &converted.weights, &Device::Cpu).in_file(path)?;
    converted.config.labels = Some(model.labels().to_vec());
    converted.config.window = model.window();
    Ok(converted)
}

/// Writes `config.json` and `model.safetensors` into `directory`, which is made when missing.
///
/// # Errors
///
/// When the directory cannot be written.
pub fn write(converted: &Converted, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).in_file(directory)?;
    write_weights(&converted.weights, &directory.join("model.safetensors"))?;
    let mut text = serde_json::to_string_pretty(&converted.config)?;
    text.push('\n');
    output::write_file(&directory.join("config.json"), text.as_bytes())
}

/// Writes tensors one after the other, in the number format that they have.
fn write_weights(weights: &Weights, path: &Path) -> Result<()> {
    struct Lazy<'a>(&'a Stored);
    impl View for &Lazy<'_> {
        fn dtype(&self) -> safetensors::Dtype {
            match self.0.dtype() {
                Dtype::F16 => safetensors::Dtype::F16,
                Dtype::Bf16 => safetensors::Dtype::BF16,
                Dtype::F32 => safetensors::Dtype::F32,
                Dtype::F64 => safetensors::Dtype::F64,
            }
        }
        fn shape(&self) -> &[usize] {
            &self.0.shape
        }
        fn data(&self) -> Cow<'_, [u8]> {
            self.0.bytes()
        }
        fn data_len(&self) -> usize {
            self.0.len() * self.0.dtype().size()
        }
    }
    let temporary = output::temporary_beside(path)?;
    let views: Vec<_> = weights.tensors().iter().map(|(name, tensor)| (name, Lazy(tensor))).collect();
    let views = views.iter().map(|(name, view)| (name, view));
    safetensors::serialize_to_file(views, None, temporary.path())
        .map_err(|error| Error::data(format!("cannot write safetensors: {error}")))
        .in_file(path)?;
    temporary.commit(path)
}

fn from_torch(path: &Path, hints: &Hints) -> Result<Converted> {
    let (weights, numbers) = Weights::read_module(path)?;
    let mut config = find(&weights, hints).in_file(path)?;
    if config.architecture() == "BPNet"
        && let Some(trimming) = numbers.get("trimming").and_then(|&n| u32::try_from(n).ok())
    {
        // bpnet-lite trains on profiles of 1000 bases.
        config.window = Some(1000 + 2 * trimming as usize);
        config.rest.insert("trimming".into(), trimming.into());
    }
    Ok(Converted { config, weights })
}

fn from_safetensors(path: &Path, hints: &Hints) -> Result<Converted> {
    let weights = Weights::read(path)?;
    let bytes = fs::read(path).in_file(path)?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
        .map_err(|error| Error::data(format!("not a safetensors file: {error}")))
        .in_file(path)?;
    let described = header.metadata().as_ref().and_then(|metadata| metadata.get("nyx_arch"));
    let config = match described {
        Some(text) => described_config(&serde_json::from_str(text).in_file(path)?).in_file(path)?,
        None => find(&weights, hints).in_file(path)?,
    };
    Ok(Converted { config, weights })
}

/// Turns the `nyx_arch` metadata of a safetensors file into a config.
fn described_config(described: &Value) -> Result<Config> {
    if described.is_array() {
        let mut config = Config::new("SequentialCnn");
        config.rest.insert("layers".into(), described.clone());
        return Ok(config);
    }
    if described["kind"] == "bpnet-lite" {
        let mut config = Config::new("BPNet");
        config.window = described["input"].as_u64().map(|bases| bases as usize);
        config.rest.insert("trimming".into(), described["trimming"].clone());
        return Ok(config);
    }
    let kind = described.get("kind").cloned().unwrap_or(json!(null));
    Err(Error::data(format!(
        "its nyx_arch metadata describes a network of kind {kind}, which nyx does not know"
    )))
}

/// Finds the architecture whose tensors these are.
fn find(weights: &Weights, hints: &Hints) -> Result<Config> {
    if let Some(wanted) = hints.architecture {
        let config = Config::new(wanted);
        check(&config, weights)?;
        return Ok(config);
    }
    let fits = |name: &str| check(&Config::new(name), weights).is_ok();
    let candidates: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).filter(|name| fits(name)).collect();
    match candidates[..] {
        [only] => Ok(Config::new(only)),
        [] => Err(Error::data(format!(
            "its tensors fit none of the architectures nyx knows ({}); name one with --architecture to see what \
             is missing, or give the whole directory where there is a config.json",
            architectures().join(", ")
        ))),
        _ => Err(Error::data(format!(
            "its tensors fit {}: say which with --architecture",
            candidates.join(" and ")
        ))),
    }
}

/// Checks that the tensors are those that the architecture needs.
fn check(config: &Config, weights: &Weights) -> Result<()> {
    match config.architecture() == residual_fcnn::NAME {
        true => residual_fcnn::Graph::load(config, weights).map(drop),
        false => build(config, weights, &Device::Cpu).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::weights::Array;
    use super::*;
    use crate::kernel::testing::{bits, noise};
    use std::path::PathBuf;

    fn message(path: &Path, hints: &Hints) -> String {
        read(path, hints).unwrap_err().to_string()
    }

    fn saved(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights");
        fs::write(&path, bytes).unwrap();
        (directory, path)
    }

    #[test]
    fn keras_weights_and_their_safetensors_are_one_network() {
        for name in ["SPI1_GM12878", "GATA1_multitask"] {
            let folder = format!("data/models/kundaje_cnn/{name}");
            let Some(json) = shared(&format!("{folder}/model.json")) else { return };
            let hints = Hints { keras_json: Some(&json), ..Hints::default() };
            let keras = converted(&format!("{folder}/weights.h5"), &hints).unwrap();
            let torch = converted(&format!("{folder}/model.safetensors"), &Hints::default()).unwrap();
            assert_eq!((keras.window(), keras.labels()), (Some(1000), torch.labels()));
            let bases: Vec<u8> = (0..1000).map(|i| b"ACGTN"[i * i % 5]).collect();
            let logits = |model: &dyn super::super::Network| {
                bits(&model.forward(&model.encode(&[&bases]).unwrap()).unwrap().logits)
            };
            assert_eq!(logits(&*keras), logits(&*torch));
        }
    }

    #[test]
    fn weights_without_their_architecture_are_refused_with_the_remedy() {
        let Some(path) = shared("data/models/kundaje_cnn/SPI1_GM12878/weights.h5") else { return };
        assert!(message(&path, &Hints::default()).contains("--keras-json"));
        assert!(
            super::super::load(&path, &Device::Cpu).err().unwrap().to_string().contains("nyx-model convert")
        );
    }

    #[test]
    fn a_wrong_architecture_is_refused_with_the_tensor_that_is_missing() {
        let Some(path) = shared("data/models/nyxbind/CTCFL/DeepSNR.pth") else { return };
        let message = message(&path, &Hints { architecture: Some("DanQ"), ..Hints::default() });
        assert!(message.contains("no tensor `Conv.0"), "{message}");
    }

    #[test]
    fn files_of_other_kinds_are_refused() {
        let (_directory, path) = saved(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.");
        assert!(message(&path, &Hints::default()).contains("ends in the middle"));
        let (_directory, path) = saved(b"GIF89a");
        assert!(message(&path, &Hints::default()).contains("neither a PyTorch file"));
        let (_directory, path) = saved(b"PK\x03\x04 and nothing more");
        assert!(message(&path, &Hints::default()).contains("damaged or cut short"));
    }

    #[test]
    fn what_is_written_reads_back_the_same_and_twice_the_same() {
        let tensors =
            [("0.weight", vec![2, 4, 3]), ("0.bias", vec![2])].map(|(name, shape): (&str, Vec<usize>)| {
                let values = noise(shape.iter().product(), 1);
                (name.to_string(), Array { shape, values })
            });
        let mut config = Config::new("SequentialCnn");
        let layers = json!([{"op": "conv1d", "in_": 4, "out": 2, "k": 3}, {"op": "globalmaxpool"}]);
        config.rest.insert("layers".into(), layers);
        let converted = Converted { config, weights: Weights::collect(Path::new("m"), tensors.into()) };
        let directory = tempfile::tempdir().unwrap();
        let files = || {
            write(&converted, directory.path()).unwrap();
            ["config.json", "model.safetensors"].map(|name| fs::read(directory.path().join(name)).unwrap())
        };
        assert_eq!(files(), files());
        let again = Weights::read(&directory.path().join("model.safetensors")).unwrap();
        assert_eq!(arrays(&again), arrays(&converted.weights));
        let loaded = super::super::load(directory.path(), &Device::Cpu).unwrap();
        assert_eq!((loaded.model.window(), loaded.digest.len()), (None, 64));
        assert_eq!(loaded.model.labels(), ["class_0", "class_1"]);
    }

    /// Returns the windows of 1000 bases around the CTCF peaks of the megabase, and as many elsewhere.
    fn peaks_and_others() -> (Vec<Vec<u8>>, Vec<bool>) {
        let peaks = text(&shared("data/peaks/hg19/K562.CTCF.narrowPeak.gz").unwrap());
        let centers: Vec<usize> = (peaks.lines().map(|line| line.split('\t').collect::<Vec<_>>()))
            .filter(|fields| fields[0] == "chr20")
            .map(|fields| fields[1].parse::<usize>().unwrap() + fields[9].parse::<usize>().unwrap())
            .filter(|center| (1_001_000..1_999_000).contains(center))
            .collect();
        let free = |place: &usize| centers.iter().all(|center| center.abs_diff(*place) > 2000);
        let others: Vec<usize> = (1_001_000..1_999_000).step_by(20_000).filter(free).collect();
        let labels = centers.iter().map(|_| true).chain(others.iter().map(|_| false)).collect();
        let bases = chromosome_20();
        let window = |center: &usize| bases[center - 1_000_500..][..1000].to_vec();
        (centers.iter().chain(&others).map(window).collect(), labels)
    }

    /// There is no reference output of this network, so its sense is tested: it must know CTCF, and better with
    /// the kernels turned as Theano turns them than without. (Not much better: turned on both axes, all kernels
    /// read the other strand, and only the order of positions in the last layer tells.)
    #[test]
    fn a_kernel_of_theano_is_turned_on_both_axes() {
        let Some(json) = shared("data/models/dragonn_in_vivo/ctcf.arch.json") else { return };
        let hints = Hints { keras_json: Some(&json), ..Hints::default() };
        let path = shared("data/models/dragonn_in_vivo/ctcf.weights.hd5").unwrap();
        let turned = read(&path, &hints).unwrap();
        let mut tensors = arrays(&turned.weights);
        for array in tensors.values_mut().filter(|array| array.shape.len() == 3) {
            let filter = if array.shape[1] == 4 { 4 * array.shape[2] } else { array.shape[2] };
            array.values.chunks_exact_mut(filter).for_each(<[f32]>::reverse);
        }
        let (windows, labels) = peaks_and_others();
        let windows: Vec<&[u8]> = windows.iter().map(Vec::as_slice).collect();
        let area = |weights: &Weights| {
            let model = model(&turned.config, weights);
            assert_eq!(model.window(), Some(1000));
            auc(&predict(&*model, &windows).0, &labels)
        };
        let (as_read, unturned) = (area(&turned.weights), area(&Weights::collect(&path, tensors)));
        assert!(as_read > 0.97 && as_read > unturned, "{as_read} with turned kernels, {unturned} without");
    }
}
