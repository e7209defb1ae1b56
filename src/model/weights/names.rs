//! One name for one tensor, whoever saved it.

use std::collections::BTreeSet;

use super::Tensors;

/// Takes off what wrappers put before every name (DataParallel's `module.`, the compiler's `_orig_mod.`,
/// Lightning's `model.`), and calls the `gamma` and `beta` of norms by their names of today.
pub fn uniform(mut tensors: Tensors) -> Tensors {
    while let Some(prefix) = common_prefix(&tensors) {
        tensors = tensors.rename(|name| name.strip_prefix(prefix).unwrap_or(name).to_string());
    }
    let names: BTreeSet<String> = tensors.stored.keys().cloned().collect();
    tensors
        .rename(|name| Some(modern(name)).filter(|new| !names.contains(new)).unwrap_or_else(|| name.into()))
}

/// Returns the prefix of a wrapper that all names have.
fn common_prefix(tensors: &Tensors) -> Option<&'static str> {
    let names = || tensors.stored.keys().chain(tensors.others.keys());
    let all = |prefix: &str| !tensors.is_empty() && names().all(|name| name.starts_with(prefix));
    // Decoders are called `model.` by themselves, and have nothing beside it when their embeddings are tied.
    let decoder = || names().any(|name| name.starts_with("model.embed_tokens."));
    let prefixes = ["module.", "_orig_mod.", "model."].into_iter();
    prefixes.filter(|&prefix| prefix != "model." || !decoder()).find(|prefix| all(prefix))
}

/// Returns the name that PyTorch gives this tensor today: TensorFlow called those of a norm gamma and beta.
fn modern(name: &str) -> String {
    let is_norm = |module: &str| module.rsplit('.').next().unwrap_or(module).to_lowercase().contains("norm");
    match name.rsplit_once('.') {
        Some((module, "gamma")) if is_norm(module) => format!("{module}.weight"),
        Some((module, "beta")) if is_norm(module) => format!("{module}.bias"),
        _ => name.to_string(),
    }
}
