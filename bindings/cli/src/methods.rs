//! Which methods the user allows.

use crate::failure::{Failure, Result};
use crate::library::Context;

/// Limits methods like --method.
pub const VARIABLE: &str = "XCOPY_METHODS";

/// What --method and XCOPY_METHODS leave, as a mask; 0 is any.
pub fn allowed(context: &Context, named: &[String]) -> Result<u32> {
    let parse = |names: &[String], whence: &str| {
        context
            .method_mask(names)
            .map_err(|failure| Failure::usage(format!("{whence}: {failure}")))
    };
    let mut mask = 0;
    if !named.is_empty() {
        mask = parse(named, "--method")?;
    }
    let Some(names) = std::env::var_os(VARIABLE).filter(|names| !names.is_empty()) else {
        return Ok(mask);
    };
    let names: Vec<String> = names
        .to_string_lossy()
        .split(',')
        .map(str::to_owned)
        .collect();
    let limit = parse(&names, VARIABLE)?;
    match mask {
        0 => Ok(limit),
        mask if mask & limit == 0 => Err(Failure::usage(
            "--method and XCOPY_METHODS have no method in common; change one of them",
        )),
        mask => Ok(mask & limit),
    }
}
