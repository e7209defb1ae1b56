//! Numbers as C's `%g` writes them, for tables that other programs write so.

/// Returns `value` with `digits` significant digits, trailing zeros left out, as `%.{digits}g`.
pub fn general(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan".into()
        } else if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let text = format!("{value:.*e}", digits.max(1) - 1);
    let (mantissa, exponent) = text.split_once('e').expect("Rust writes an exponent");
    let exponent: i32 = exponent.parse().expect("Rust writes a whole number");
    if (-4..digits as i32).contains(&exponent) {
        let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
        return shortened(&format!("{value:.decimals$}")).to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", shortened(mantissa), exponent.abs())
}

fn shortened(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_c() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.5, "0.5"),
            (1.813e-7, "1.813e-07"),
            (0.000182382, "0.000182382"),
            (0.0000182382, "1.82382e-05"),
            (123456.7, "123457"),
            (1234567.0, "1.23457e+06"),
            (999999.7, "1e+06"),
            (-15.337_1, "-15.3371"),
            (2.5e-120, "2.5e-120"),
            (100000.0, "100000"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(general(value, 6), text);
        }
        assert_eq!(general(5.954e-6, 3), "5.95e-06");
    }
}
