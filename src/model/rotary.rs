//! Rotary positions as `config.json` has them, in the keys of old and of new transformers.

use serde_json::Value;

use crate::error::{Error, Result};

/// Returns the base of the wavelengths that `parameters` (`rope_parameters`, or `rope_scaling` of old configs) name,
/// or else `theta`, or else `default`.
///
/// # Errors
///
/// When the positions are scaled, which nyx does not compute.
pub fn base(parameters: &[Option<&Value>], theta: Option<f32>, default: f32) -> Result<f32> {
    let mut base = theta.unwrap_or(default);
    for parameters in parameters.iter().flatten() {
        let kind = parameters.get("rope_type").or_else(|| parameters.get("type"));
        if let Some(kind) = kind.and_then(Value::as_str).filter(|kind| *kind != "default") {
            return Err(Error::data(format!(
                "config.json: rotary positions of type `{kind}`, which nyx does not compute; `default` it does"
            )));
        }
        if let Some(theta) = parameters.get("rope_theta").and_then(Value::as_f64) {
            base = theta as f32;
        }
    }
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_and_new_keys_name_the_base_and_scaled_positions_are_refused() {
        let new = json!({"rope_type": "default", "rope_theta": 500000.0});
        assert_eq!(base(&[Some(&new), None], None, 1e4).unwrap(), 5e5);
        assert_eq!(base(&[None, None], Some(7.0), 1e4).unwrap(), 7.0);
        assert_eq!(base(&[None, None], None, 1e4).unwrap(), 1e4);
        for key in ["rope_type", "type"] {
            let scaled = json!({key: "llama3", "factor": 8.0});
            assert!(base(&[None, Some(&scaled)], None, 1e4).unwrap_err().to_string().contains("`llama3`"));
        }
    }
}
