//! One tensor where it lies: in a file, in memory, or yet to be computed.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use half::{bf16, f16};

use super::Array;
use crate::error::{Error, Result};
use crate::input::Mapped;

/// The number formats of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dtype {
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 32-bit floats.
    F32,
    /// 64-bit floats.
    F64,
}

impl Dtype {
    /// Returns the bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Returns the name as flags and reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

/// Computes the values of a tensor when they are wanted.
type Recipe = Box<dyn Fn() -> Vec<f32> + Send + Sync>;

enum Content {
    Values(Vec<f32>),
    Recipe(Recipe),
    /// Numbers side by side, in row-major order.
    Plain {
        file: Mapped,
        bytes: Range<usize>,
    },
    /// A view of PyTorch into a storage: the first number and the steps along each axis, in numbers.
    Strided {
        file: Mapped,
        storage: Range<usize>,
        offset: usize,
        strides: Vec<usize>,
    },
}

/// A tensor of a model file. Its numbers are read when they are asked for.
pub struct Stored {
    /// Length of each axis.
    pub shape: Vec<usize>,
    dtype: Dtype,
    content: Content,
    floats: OnceLock<Vec<f32>>,
    wanted: AtomicBool,
}

impl fmt::Debug for Stored {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}{:?}", self.dtype.name(), self.shape)
    }
}

impl From<Array> for Stored {
    fn from(array: Array) -> Self {
        Self::new(array.shape, Dtype::F32, Content::Values(array.values))
    }
}

impl Stored {
    fn new(shape: Vec<usize>, dtype: Dtype, content: Content) -> Self {
        Self { shape, dtype, content, floats: OnceLock::new(), wanted: AtomicBool::new(false) }
    }

    /// Creates a tensor whose values are computed each time that they are read.
    pub(in crate::model) fn computed(
        shape: Vec<usize>,
        recipe: impl Fn() -> Vec<f32> + Send + Sync + 'static,
    ) -> Self {
        Self::new(shape, Dtype::F32, Content::Recipe(Box::new(recipe)))
    }

    /// Creates a tensor of row-major numbers at `bytes` of a file.
    ///
    /// # Errors
    ///
    /// When the shape is of another size, or the file too short.
    pub(super) fn plain(file: &Mapped, bytes: Range<usize>, dtype: Dtype, shape: Vec<usize>) -> Result<Self> {
        let wanted = count(&shape).and_then(|count| count.checked_mul(dtype.size()));
        if wanted != Some(bytes.len()) || file.bytes().get(bytes.clone()).is_none() {
            let message = format!("{shape:?} {} are not {} bytes of this file", dtype.name(), bytes.len());
            return Err(Error::data(message));
        }
        Ok(Self::new(shape, dtype, Content::Plain { file: file.clone(), bytes }))
    }

    /// Creates a view into the storage at the bytes `storage` of a file; `offset` and `strides` count numbers.
    ///
    /// # Errors
    ///
    /// When the view leaves its storage, or has more numbers than that.
    pub(super) fn strided(
        file: &Mapped,
        storage: Range<usize>,
        dtype: Dtype,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self> {
        let outside = || {
            let size = storage.len() / dtype.size();
            Error::data(format!(
                "shape {shape:?}, strides {strides:?} from number {offset} on leave its storage of {size} numbers: the \
                 file is damaged"
            ))
        };
        let size = file.bytes().get(storage.clone()).ok_or_else(outside)?.len() / dtype.size();
        let count = count(&shape).filter(|_| strides.len() == shape.len()).ok_or_else(outside)?;
        if count > size || (count > 0 && reach(offset, &shape, &strides).is_none_or(|last| last >= size)) {
            return Err(outside());
        }
        if count == 0 || row_major(&shape, &strides) {
            let start = if count == 0 { storage.start } else { storage.start + offset * dtype.size() };
            return Self::plain(file, start..start + count * dtype.size(), dtype, shape);
        }
        Ok(Self::new(shape, dtype, Content::Strided { file: file.clone(), storage, offset, strides }))
    }

    /// Returns how the numbers are stored.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the number of numbers.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns whether there are no numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a model asked for this tensor.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Notes that a model asked for this tensor.
    pub(super) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Returns the values in row-major order: the file's own bytes where they are f32 already, a new vector
    /// otherwise.
    pub fn read(&self) -> Cow<'_, [f32]> {
        if let Some(values) = self.in_place() {
            return Cow::Borrowed(values);
        }
        match &self.content {
            Content::Recipe(recipe) => Cow::Owned(recipe()),
            _ => Cow::Owned(floats(self.dtype, &self.bytes())),
        }
    }

    /// Returns the values in row-major order, kept for as long as the tensor lives.
    pub fn keep(&self) -> &[f32] {
        if let Some(values) = self.in_place() {
            return values;
        }
        self.floats.get_or_init(|| self.read().into_owned())
    }

    /// Returns the numbers as they are stored, little-endian, in row-major order.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.content {
            Content::Values(values) => Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Content::Recipe(recipe) => Cow::Owned(recipe().iter().flat_map(|v| v.to_le_bytes()).collect()),
            Content::Plain { file, bytes } => Cow::Borrowed(&file.bytes()[bytes.clone()]),
            Content::Strided { file, storage, offset, strides } => {
                Cow::Owned(self.gather(&file.bytes()[storage.clone()], *offset, strides))
            }
        }
    }

    /// Returns values that need no conversion.
    fn in_place(&self) -> Option<&[f32]> {
        match &self.content {
            Content::Values(values) => Some(values),
            Content::Plain { file, bytes } if self.dtype == Dtype::F32 && cfg!(target_endian = "little") => {
                bytemuck::try_cast_slice(&file.bytes()[bytes.clone()]).ok()
            }
            _ => self.floats.get().map(Vec::as_slice),
        }
    }

    /// Puts the numbers of a view side by side.
    fn gather(&self, storage: &[u8], offset: usize, strides: &[usize]) -> Vec<u8> {
        let size = self.dtype.size();
        let place = |mut index: usize| {
            self.shape.iter().zip(strides).rev().fold(offset, |place, (&n, &stride)| {
                let here = index % n;
                index /= n;
                place + here * stride
            })
        };
        (0..self.len()).flat_map(|index| &storage[place(index) * size..][..size]).copied().collect()
    }
}

fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n))
}

/// Returns the place of the last number of a view.
fn reach(offset: usize, shape: &[usize], strides: &[usize]) -> Option<usize> {
    let mut axes = shape.iter().zip(strides);
    axes.try_fold(offset, |place, (&n, &stride)| place.checked_add(n.saturating_sub(1).checked_mul(stride)?))
}

/// Whether these are the strides of numbers side by side.
fn row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.iter().zip(strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expected;
        // A shape with a zero in it may have any other lengths.
        expected = n.saturating_mul(expected);
        fits
    })
}

/// Converts little-endian numbers.
fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
    }
    match dtype {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F64 => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::Bf16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
    }
}
