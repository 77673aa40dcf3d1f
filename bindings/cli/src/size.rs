//! Sizes on the command line: whole numbers with binary suffixes.

/// Parses `N`, or `N` with K, M, G, T (or KiB, MiB, GiB, TiB), all powers of 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    if number.is_empty() {
        return Err("not a size: write a whole number, such as 4096 or 64K".to_owned());
    }
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        "kb" | "mb" | "gb" | "tb" => {
            return Err(format!(
                "{suffix} can mean 1000 or 1024: write K, M, G or T for powers of 1024"
            ));
        }
        other if other.starts_with(['.', ',']) => {
            return Err("fractions are not taken: write 1536M instead of 1.5G".to_owned());
        }
        _ => {
            return Err(format!(
                "unknown suffix '{suffix}': sizes take K, M, G and T"
            ));
        }
    };
    let value: u64 = number.parse().map_err(|_| too_large())?;
    value.checked_mul(1 << shift).ok_or_else(too_large)
}

/// Like [`parse`], and 0 is refused: it would mean "no limit" or nothing at all.
pub fn parse_nonzero(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("must be more than 0; leave the option out instead".to_owned()),
        value => Ok(value),
    }
}

fn too_large() -> String {
    "too large: sizes go up to 2^64 - 1 bytes".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("3K"), Ok(3 << 10));
        assert_eq!(parse("3k"), Ok(3 << 10));
        assert_eq!(parse("3KiB"), Ok(3 << 10));
        assert_eq!(parse("5M"), Ok(5 << 20));
        assert_eq!(parse("5MiB"), Ok(5 << 20));
        assert_eq!(parse("7G"), Ok(7 << 30));
        assert_eq!(parse("7GiB"), Ok(7 << 30));
        assert_eq!(parse("2T"), Ok(2 << 40));
        assert_eq!(parse("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn what_is_unclear_or_too_large_is_refused() {
        let wrong = [
            "",
            "K",
            "-1",
            "+1",
            "1.5G",
            "1,5G",
            "1KB",
            "1gb",
            "1P",
            "1 K",
            "0x10",
            "1Kx",
            "١",
            "18446744073709551616",
            "16777216T",
            "1K1",
        ];
        for text in wrong {
            assert!(parse(text).is_err(), "{text} was taken");
        }
        assert!(parse_nonzero("0").is_err());
        assert!(parse_nonzero("0K").is_err());
        assert_eq!(parse_nonzero("1K"), Ok(1024));
    }
}
