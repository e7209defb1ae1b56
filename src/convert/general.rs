//! Numbers as C's `%g` writes them, for tables that other programs write so.

/// Most digits that [`quick`] can be sure of.
const DIGITS: usize = 9;
/// How near to the middle between two numbers of that many digits a product may lie for [`quick`] to be sure of it.
const MIDDLE: f64 = 1e-4;

/// Returns `value` with `digits` significant digits, trailing zeros left out, as `%.{digits}g`.
pub fn general(value: f64, digits: usize) -> String {
    let mut text = String::new();
    push_general(&mut text, value, digits);
    text
}

/// Writes what [`general`] returns at the end of `text`.
pub fn push_general(text: &mut String, value: f64, digits: usize) {
    if !value.is_finite() {
        return text.push_str(match value {
            _ if value.is_nan() => "nan",
            _ if value > 0.0 => "inf",
            _ => "-inf",
        });
    }
    let digits = digits.max(1);
    if value.is_sign_negative() {
        text.push('-');
    }
    if value == 0.0 {
        return text.push('0');
    }
    let mut room = [b'0'; DIGITS];
    match quick(value.abs(), digits, &mut room) {
        Some(exponent) => place(text, &room[..digits], exponent),
        None => {
            let scientific = format!("{:.*e}", digits - 1, value.abs());
            let (mantissa, exponent) = scientific.split_once('e').expect("Rust writes an exponent");
            let mantissa: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
            place(text, &mantissa, exponent.parse().expect("Rust writes a whole number"));
        }
    }
}

/// Writes the decimal digits of a number above 0, rounded, and returns the power of ten of the first. `None` where
/// arithmetic in 64 bits may round another way than the number itself.
fn quick(value: f64, digits: usize, room: &mut [u8; DIGITS]) -> Option<i32> {
    if digits > DIGITS || !(1e-200..1e200).contains(&value) {
        return None;
    }
    // The logarithm of the power of two, or one too few.
    let two = ((value.to_bits() >> 52) as i32) - 1023;
    let mut exponent = (f64::from(two) * std::f64::consts::LOG10_2).floor() as i32;
    let scaled = |exponent: i32| {
        let power = digits as i32 - 1 - exponent;
        // Two factors, for a power may be beyond the range of numbers.
        if power > 150 { value * 1e150 * 10f64.powi(power - 150) } else { value * 10f64.powi(power) }
    };
    let limit = 10u64.pow(digits as u32);
    let mut product = scaled(exponent);
    if product >= limit as f64 - 1.0 {
        exponent += 1;
        product = scaled(exponent);
    }
    let whole = product.floor();
    if (product - whole - 0.5).abs() < MIDDLE || product < limit as f64 / 10.0 {
        return None;
    }
    let mut whole = whole as u64 + u64::from(product - whole > 0.5);
    for digit in room[..digits].iter_mut().rev() {
        *digit = b'0' + (whole % 10) as u8;
        whole /= 10;
    }
    Some(exponent)
}

/// Writes a number of these digits, the first of which stands for a power of ten.
fn place(text: &mut String, digits: &[u8], exponent: i32) {
    let kept = digits.iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1);
    let push =
        |text: &mut String, digits: &[u8]| digits.iter().for_each(|&digit| text.push(char::from(digit)));
    if (-4..0).contains(&exponent) {
        text.push_str(&"0.000"[..(1 - exponent) as usize]);
        return push(text, &digits[..kept]);
    }
    let (first, style) = match exponent {
        0.. if (exponent as usize) < digits.len() => (exponent as usize + 1, None),
        _ => (1, Some(exponent)),
    };
    push(text, &digits[..first]);
    if kept > first {
        text.push('.');
        push(text, &digits[first..kept]);
    }
    if let Some(exponent) = style {
        text.push('e');
        text.push(if exponent < 0 { '-' } else { '+' });
        let power = exponent.unsigned_abs();
        if power < 10 {
            text.push('0');
        }
        text.push_str(&power.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By Rust's own digits.
    fn plain(value: f64, digits: usize) -> String {
        let text = format!("{value:.*e}", digits - 1);
        let (mantissa, exponent) = text.split_once('e').unwrap();
        let exponent: i32 = exponent.parse().unwrap();
        let shortened = |text: &str| match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
            false => text.to_string(),
        };
        if (-4..digits as i32).contains(&exponent) {
            return shortened(&format!("{value:.*}", (digits as i32 - 1 - exponent) as usize));
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", shortened(mantissa), exponent.abs())
    }

    proptest! {
        #[test]
        fn digits_are_those_of_the_number_itself(bits in any::<u64>(), near in -9.0f64..9.0, power in -12i32..12) {
            for value in [f64::from_bits(bits), near, near * 10f64.powi(power), (near * 1e5).round() / 1e5 * 10f64.powi(power)] {
                for digits in [1, 3, 6, 9, 12, 17] {
                    if value.is_finite() {
                        prop_assert_eq!(general(value, digits), plain(value, digits));
                    }
                }
            }
        }
    }

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
