//! HDF5 files of other programs, opened as data from elsewhere.
//!
//! HDF5 can keep the values of a dataset in other files (external storage, virtual datasets) and lead a name into one
//! (external and soft links). No file that nyx reads needs any of that, and through them a model from elsewhere could
//! make nyx read the user's other files; so they are refused. The library trusts what a file says of itself: sizes
//! are checked here, and a panic of it becomes an error.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use rust_hdf5::format::superblock::{SuperblockV0V1, SuperblockV2V3, detect_superblock_version};
use rust_hdf5::{H5Dataset, H5File, H5Group, Hdf5Error, LinkClass, StorageLayout};

use crate::error::{Error, InFile, Result, guarded};

/// Bytes that a dataset may have whatever the size of the file.
const EXPANDED_FREE: u64 = 256 << 20;
/// How many times larger than the file a dataset may be beyond that.
const EXPANSION_MAX: u64 = 300;

/// An open HDF5 file that is whole.
pub struct Hdf5 {
    file: H5File,
    /// Bytes of the file.
    length: u64,
}

impl Hdf5 {
    /// Opens an HDF5 file that is whole.
    ///
    /// The library reads chunks that a cut file no longer has as zeros, so the length is checked here against the
    /// one in the superblock.
    ///
    /// # Errors
    ///
    /// When the file is not HDF5 or ends before its own end.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path).in_file(path)
    }

    fn read(path: &Path) -> Result<Self> {
        let file = run(|| H5File::open(path))?;
        let mut raw = File::open(path)?;
        let length = raw.metadata()?.len();
        raw.seek(SeekFrom::Start(file.userblock_size()))?;
        let mut head = Vec::new();
        raw.take(1024).read_to_end(&mut head)?;
        let end = guarded("the HDF5 file", || match detect_superblock_version(&head) {
            Ok(0 | 1) => SuperblockV0V1::decode(&head).map(|block| block.end_of_file_address),
            _ => SuperblockV2V3::decode(&head).map(|block| block.end_of_file_address),
        })?;
        let end = end.map_err(|error| Error::data(format!("HDF5: {error}")))?;
        if length < end {
            let message = format!("the file is cut: {length} bytes of {end}. Copy or download it again");
            return Err(Error::data(message));
        }
        Ok(Self { file, length })
    }

    /// Returns the text attribute `name` of the file.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn text(&self, name: &str) -> Result<String> {
        run(|| self.file.attr_string(name))
    }

    /// Returns the paths of all datasets.
    ///
    /// # Errors
    ///
    /// When the file is damaged.
    pub fn dataset_names(&self) -> Result<Vec<String>> {
        guarded("the HDF5 file", || self.file.dataset_names())
    }

    /// Returns the names of the groups in the group `path` (empty for the file itself).
    ///
    /// # Errors
    ///
    /// When there is no such group.
    pub fn groups(&self, path: &str) -> Result<Vec<String>> {
        run(|| self.group(path)?.group_names())
    }

    /// Opens the dataset at `path`, whose values are in this file.
    ///
    /// # Errors
    ///
    /// When there is none, its values are in another file or under another name, or its shape needs far more bytes
    /// than the file has.
    pub fn dataset(&self, path: &str) -> Result<H5Dataset> {
        let path = path.trim_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let class = run(|| self.group(parent)?.link_class(name)).map_err(|error| error.at(path))?;
        if class != LinkClass::Hard {
            return Err(elsewhere()).map_err(|error| error.at(path));
        }
        let dataset = run(|| self.file.dataset(path)).map_err(|error| error.at(path))?;
        let layout = run(|| dataset.storage_layout()).map_err(|error| error.at(path))?;
        let external = run(|| dataset.external_files()).map_err(|error| error.at(path))?;
        if layout == StorageLayout::Virtual || !external.is_empty() {
            return Err(elsewhere().at(path));
        }
        self.check_size(&dataset).map_err(|error| error.at(path))?;
        Ok(dataset)
    }

    /// Opens a group. The library follows no external link here.
    fn group(&self, path: &str) -> Result<H5Group, Hdf5Error> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(self.file.root_group(), |group, part| group.group(part))
    }

    /// Checks that the values of a dataset are no more than the file can hold, compressed as such files are.
    fn check_size(&self, dataset: &H5Dataset) -> Result<()> {
        let shape = dataset.shape();
        let size = dataset.element_size().max(8);
        let bytes = shape.iter().try_fold(size, |bytes, &n| bytes.checked_mul(n)).map(|bytes| bytes as u64);
        let most = EXPANDED_FREE.max(self.length.saturating_mul(EXPANSION_MAX));
        if bytes.is_some_and(|bytes| bytes <= most) {
            return Ok(());
        }
        Err(Error::data(format!(
            "a dataset of shape {shape:?} in a file of {} bytes: the file is damaged",
            self.length
        )))
    }
}

fn elsewhere() -> Error {
    Error::data(
        "the file keeps its values elsewhere (a link, external or virtual storage), which nyx does not follow: \
         `h5repack`, or copy the datasets into one file",
    )
}

/// Runs the library, whose panics become errors, too.
///
/// # Errors
///
/// Its own.
pub fn run<T>(read: impl FnOnce() -> Result<T, Hdf5Error>) -> Result<T> {
    guarded("the HDF5 file", read)?.map_err(|error| Error::data(format!("HDF5: {error}")))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A file with one dataset of 512 numbers; `more` adds to it.
    fn saved(directory: &Path, more: impl FnOnce(&H5File)) -> PathBuf {
        let path = directory.join("values.h5");
        let file = H5File::create(&path).unwrap();
        let dataset = file.new_dataset::<f32>().shape([64, 8]).chunk(&[8, 8]).deflate(6).create("values");
        dataset.unwrap().write_raw(&[1.0f32; 512]).unwrap();
        more(&file);
        file.close().unwrap();
        path
    }

    #[test]
    fn every_cut_of_a_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = saved(directory.path(), |_| ());
        let whole = std::fs::read(&path).unwrap();
        Hdf5::open(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let error = Hdf5::open(&path).err().unwrap_or_else(|| panic!("cut at {cut} passed"));
            assert!(error.to_string().contains("values.h5"), "{error}");
        }
    }

    /// A model from elsewhere must not make nyx read the user's other files.
    #[test]
    fn values_in_other_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        std::fs::write(&secret, [7; 4096]).unwrap();
        let secret = secret.to_str().unwrap();
        std::fs::create_dir(directory.path().join("other")).unwrap();
        let other = saved(&directory.path().join("other"), |_| ());
        let path = saved(directory.path(), |file| {
            file.new_dataset::<u8>().shape([16]).external(&[(secret, 0, 16)]).create("stored").unwrap();
            file.create_external_link("linked", other.to_str().unwrap(), "/values").unwrap();
            file.create_soft_link("soft", "/linked").unwrap();
        });
        let file = Hdf5::open(&path).unwrap();
        assert_eq!(file.dataset("values").unwrap().read_raw::<f32>().unwrap().len(), 512);
        for name in ["stored", "linked", "soft", "/linked", "linked/"] {
            let message = file.dataset(name).err().unwrap_or_else(|| panic!("{name}")).to_string();
            assert!(message.contains("elsewhere"), "{name}: {message}");
        }
        assert!(file.dataset("nothing").is_err() && file.dataset("linked/x").is_err());
    }

    #[test]
    fn a_shape_that_no_file_of_this_size_holds_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vast.h5");
        // The oldest generation of the format has no checksums.
        let file = H5File::options().libver(rust_hdf5::LibverBound::Earliest).create(&path).unwrap();
        file.new_dataset::<f64>().shape([67, 4]).create("vast").unwrap().write_raw(&[0.0f64; 268]).unwrap();
        file.close().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let shape = [67u64, 4].map(u64::to_le_bytes).concat();
        let place = bytes.windows(16).position(|window| window == shape).expect("the shape");
        bytes[place..place + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let message = Hdf5::open(&path).unwrap().dataset("vast").err().expect("refused").to_string();
        assert!(message.contains("1099511627776"), "{message}");
    }
}
