//! A device for tests: the kernels of a `.cu` file, compiled as C++, run on the processor in the very sequence of
//! launches and copies that a GPU would get.
//!
//! Queues are as lazy as they may be: nothing is done before somebody waits for it, and nothing more than that, so
//! that a wait that is missing between queues shows as a wrong result. Memory lies between pages that nobody may
//! touch, so that an access beyond it ends the process. Matrix products are the plain three loops.
#![allow(unsafe_code)]

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use libloading::Library;

use super::backend::{Backend, Event, Launch, Locked, Memory, Number, Product, Queue};
use crate::error::Result;

type LaunchFunction = unsafe extern "C" fn(*const c_char, u32, u32, usize, u64, *mut c_void, usize) -> c_int;
type Allocate = unsafe extern "C" fn(usize) -> *mut c_void;
type Release = unsafe extern "C" fn(*mut c_void, usize);

/// The kernels, and what has been put into queues.
pub struct Host {
    library: Arc<Library>,
    queues: Mutex<Queues>,
}

/// What is to be done.
enum Work {
    Do(Box<dyn FnOnce() + Send>),
    Mark(u64),
    Follow(Queue, u64),
}

#[derive(Default)]
struct Queues {
    waiting: [VecDeque<Work>; 3],
    marks: u64,
    reached: HashSet<u64>,
    launches: u64,
}

impl Queues {
    /// Does what stands in a queue up to a mark, and what that follows.
    fn advance(&mut self, queue: Queue, mark: u64) {
        while !self.reached.contains(&mark) {
            match self.waiting[queue as usize].pop_front().expect("the mark is in the queue") {
                Work::Do(work) => work(),
                Work::Mark(mark) => {
                    self.reached.insert(mark);
                }
                Work::Follow(other, mark) => self.advance(other, mark),
            }
        }
    }
}

/// The libraries of kernels, each compiled once by all tests together.
static TRANSFORMER: OnceLock<Option<Arc<Library>>> = OnceLock::new();
static CONVOLUTION: OnceLock<Option<Arc<Library>>> = OnceLock::new();
/// The shim runs one launch at a time.
static SHIM: Mutex<()> = Mutex::new(());

impl Host {
    /// Compiles `kernels/transformer.cu`, or says why not and returns nothing where there is no C++ compiler.
    pub fn transformer() -> Option<Arc<Self>> {
        Self::open(&TRANSFORMER, "transformer_on_host")
    }

    /// Compiles `kernels/convolution.cu`, like [`Host::transformer`].
    pub fn convolution() -> Option<Arc<Self>> {
        Self::open(&CONVOLUTION, "convolution_on_host")
    }

    fn open(library: &OnceLock<Option<Arc<Library>>>, source: &str) -> Option<Arc<Self>> {
        let library = library.get_or_init(|| compile(source).map(Arc::new)).clone();
        if library.is_none() {
            eprintln!("skipped: there is no C++ compiler");
        }
        Some(Arc::new(Self { library: library?, queues: Mutex::default() }))
    }

    /// Returns how many kernels have run.
    pub fn launches(&self) -> u64 {
        self.queues.lock().unwrap().launches
    }

    fn raw(&self, bytes: usize) -> (u64, Box<dyn Any + Send + Sync>) {
        // SAFETY: the library exports this function with this type.
        let start = unsafe { self.library.get::<Allocate>(b"nyx_allocate").unwrap()(bytes) } as u64;
        assert_ne!(start, 0, "no memory");
        (start, Box::new(Region { library: self.library.clone(), start, bytes }))
    }

    fn put(&self, queue: Queue, work: Work) {
        self.queues.lock().unwrap().waiting[queue as usize].push_back(work);
    }
}

struct Region {
    library: Arc<Library>,
    start: u64,
    bytes: usize,
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the library exports this function with this type, and gave this region.
        unsafe {
            self.library.get::<Release>(b"nyx_release").unwrap()(self.start as *mut c_void, self.bytes)
        };
    }
}

/// Compiles `kernels/shim/{name}.cpp`.
fn compile(name: &str) -> Option<Library> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/shim").join(format!("{name}.cpp"));
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("kernels.so");
    let compiler = std::env::var_os("CXX").unwrap_or("c++".into());
    let flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-o"];
    let output = Command::new(compiler).args(flags).arg(&library).arg(source).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: loading runs the initializers of the shim, which only fill its own variables. The file may go then.
    Some(unsafe { Library::new(&library) }.unwrap())
}

impl Backend for Host {
    fn prepare(&self, _ptx: &str, _kernels: &[String]) -> Result<()> {
        Ok(())
    }

    fn prepare_products(&self) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, bytes: usize) -> Result<Memory> {
        let (start, keeper) = self.raw(bytes);
        Ok(Memory::new(start, bytes, keeper))
    }

    fn lock(&self, bytes: usize) -> Result<Locked> {
        let (start, keeper) = self.raw(bytes);
        // SAFETY: the library aligns to 16 bytes, fills with zeros, and gives each region once.
        Ok(unsafe { Locked::new(start as *mut u8, bytes, keeper) })
    }

    fn upload(&self, bytes: &[u8]) -> Result<Memory> {
        let memory = self.allocate(bytes.len())?;
        // SAFETY: the region is as long and nobody else knows it yet.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.address() as *mut u8, bytes.len()) };
        Ok(memory)
    }

    unsafe fn send(&self, from: &Locked, to: &Memory, bytes: usize) -> Result<()> {
        assert!(bytes <= from.length() && bytes <= to.bytes());
        copy(self, Queue::Upload, (from.start() as u64, to.address()), bytes);
        Ok(())
    }

    unsafe fn fetch(&self, from: &Memory, to: &Locked, bytes: usize) -> Result<()> {
        assert!(bytes <= to.length() && bytes <= from.bytes());
        copy(self, Queue::Download, (from.address(), to.start() as u64), bytes);
        Ok(())
    }

    unsafe fn launch(&self, kernel: &str, shape: Launch, argument: &[u8]) -> Result<()> {
        let (name, library) = (CString::new(kernel).unwrap(), self.library.clone());
        // Aligned as the kernel's struct is.
        let mut words = vec![0u64; argument.len().div_ceil(8)];
        for (word, bytes) in words.iter_mut().zip(argument.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        let length = argument.len();
        let seed = {
            let mut queues = self.queues.lock().unwrap();
            queues.launches += 1;
            queues.launches
        };
        let work = move || {
            let _alone = SHIM.lock().unwrap();
            // SAFETY: the library exports this function with this type; the rest is the caller's contract.
            let status = unsafe {
                let launch = library.get::<LaunchFunction>(b"nyx_launch").unwrap();
                let (blocks, threads) = (shape.blocks as u32, shape.threads as u32);
                launch(name.as_ptr(), blocks, threads, shape.shared, seed, words.as_mut_ptr().cast(), length)
            };
            assert_eq!(status, 0, "{name:?} with an argument of {length} bytes");
        };
        self.put(Queue::Compute, Work::Do(Box::new(work)));
        Ok(())
    }

    unsafe fn multiply(&self, product: &Product) -> Result<()> {
        let product = *product;
        self.put(Queue::Compute, Work::Do(Box::new(move || multiply(&product))));
        Ok(())
    }

    fn record(&self, queue: Queue) -> Result<Event> {
        let mut queues = self.queues.lock().unwrap();
        queues.marks += 1;
        let mark = queues.marks;
        queues.waiting[queue as usize].push_back(Work::Mark(mark));
        Ok(Event(Box::new((queue, mark))))
    }

    fn follow(&self, queue: Queue, event: &Event) -> Result<()> {
        let &(other, mark) = event.0.downcast_ref::<(Queue, u64)>().unwrap();
        self.put(queue, Work::Follow(other, mark));
        Ok(())
    }

    fn reach(&self, event: &Event) -> Result<()> {
        let &(queue, mark) = event.0.downcast_ref::<(Queue, u64)>().unwrap();
        self.queues.lock().unwrap().advance(queue, mark);
        Ok(())
    }
}

fn copy(host: &Host, queue: Queue, (from, to): (u64, u64), bytes: usize) {
    // SAFETY: the contract of `send` and `fetch`.
    let work = move || unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
    host.put(queue, Work::Do(Box::new(work)));
}

/// Reads an array of numbers.
fn read(number: Number, address: u64, count: usize) -> Vec<f32> {
    // SAFETY: the contract of `multiply`.
    let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, count * number.bytes()) };
    match number {
        Number::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Number::Bf16 => {
            bytes.as_chunks().0.iter().map(|bytes| half::bf16::from_le_bytes(*bytes).to_f32()).collect()
        }
        Number::F16 => {
            bytes.as_chunks().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect()
        }
    }
}

fn multiply(product: &Product) {
    let Product { number, rows, inputs, outputs, .. } = *product;
    let input = read(number, product.input, rows * inputs);
    let weights = read(number, product.weights, outputs * inputs);
    let bias = product.bias.map_or_else(|| vec![0.0; outputs], |bias| read(number, bias, outputs));
    let residual = product
        .residual
        .map_or_else(|| vec![0.0; rows * outputs], |residual| read(number, residual, rows * outputs));
    let mut results = Vec::with_capacity(rows * outputs);
    for (row, residual) in input.chunks_exact(inputs).zip(residual.chunks_exact(outputs)) {
        for ((weights, bias), residual) in weights.chunks_exact(inputs).zip(&bias).zip(residual) {
            let sum: f32 = row.iter().zip(weights).map(|(x, weight)| x * weight).sum();
            let x = sum + bias + residual;
            let cubic = 0.797_884_6 * (x + 0.044_715 * x * x * x);
            results.push(if product.gelu_tanh { 0.5 * x * (1.0 + cubic.tanh()) } else { x });
        }
    }
    let bytes = number.round(&results);
    // SAFETY: the contract of `multiply`.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), product.output as *mut u8, bytes.len()) };
}

/// Compiles a program of kernels under a sanitizer and runs it, where there is a compiler that can.
fn run_sanitized(name: &str, sanitizer: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/shim").join(format!("{name}.cpp"));
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let compiler = std::env::var_os("CXX").unwrap_or("c++".into());
    let flags = ["-std=c++17", "-O1", "-g", &format!("-fsanitize={sanitizer}"), "-o"];
    let compiled = Command::new(compiler).args(flags).arg(&program).arg(source).output();
    if !compiled.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no C++ compiler with the {sanitizer} sanitizer");
        return;
    }
    let output = Command::new(&program).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("SUMMARY"), "{sanitizer}: {said}");
}

#[test]
fn no_kernel_of_transformers_leaves_its_arrays() {
    run_sanitized("transformer_sanitized", "address");
}

#[test]
fn no_threads_of_a_kernel_of_transformers_race() {
    run_sanitized("transformer_sanitized", "thread");
}

#[test]
fn no_kernel_of_convolutions_leaves_its_arrays() {
    run_sanitized("convolution_sanitized", "address");
}

#[test]
fn no_threads_of_a_kernel_of_convolutions_race() {
    run_sanitized("convolution_sanitized", "thread");
}
