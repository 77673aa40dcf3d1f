//! Names, files and the directories that are searched.

use crate::error::{Error, Result};
use std::ffi::{CStr, OsStr, OsString, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Characters of a plugin's or a method's name at most.
pub(super) const NAME_MAX: usize = 31;
/// Directories, colon-separated, that are searched first.
const VARIABLE: &str = "XCOPY_PLUGIN_DIR";
/// Where plugins lie below the directory of the library.
const BELOW: &str = "xcopy/plugins";

/// Whether a plugin or a method may have this name.
pub fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_MAX
        && name.first().is_some_and(u8::is_ascii_lowercase)
        && name
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
}

/// The file that a plugin of this name is in.
pub(super) fn file_name(name: &str) -> String {
    format!("libxcopy_{name}.so")
}

/// The name of the plugin that a file of this name has to hold.
pub(super) fn name_of_file(path: &Path) -> Option<&str> {
    let file = path.file_name()?.to_str()?;
    let name = file.strip_prefix("libxcopy_")?.strip_suffix(".so")?;
    is_name(name.as_bytes()).then_some(name)
}

/// Finds the file of a plugin by its name.
pub(super) fn by_name(name: &str, directories: &[PathBuf]) -> Result<PathBuf> {
    if !is_name(name.as_bytes()) {
        return Err(Error::new(
            libc::EINVAL,
            format!(
                "'{name}' is no plugin name: use a-z, 0-9 and _, a letter first, at most \
                 {NAME_MAX} characters, or give a path with a '/'"
            ),
        ));
    }
    let file = file_name(name);
    for directory in directories {
        let path = directory.join(&file);
        // What is there but cannot be looked at is reported by the vetting,
        // not passed over for a file of the same name further on.
        match path.symlink_metadata() {
            Err(error) if absent(&error) => {}
            _ => return Ok(path),
        }
    }
    let searched = match directories {
        [] => "no directory to search".to_owned(),
        some => {
            let some: Vec<_> = some.iter().map(|path| path.display().to_string()).collect();
            format!("searched {}", some.join(", "))
        }
    };
    Err(Error::new(
        libc::ENOENT,
        format!(
            "plugin '{name}': {file} not found; {searched}. Install the plugin, set {VARIABLE} to \
             its directory, or give its path"
        ),
    ))
}

/// Whether an error says that nothing is there.
pub(super) fn absent(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// The directories that plugins are searched in, in order.
pub fn search_directories() -> Vec<PathBuf> {
    // A program with more rights than its caller must not run the caller's
    // files: what the environment says does not count there (secure_getenv).
    let variable = if super::vet::is_secure() {
        None
    } else {
        std::env::var_os(VARIABLE)
    };
    directories(
        variable,
        beside_library(),
        option_env!("XCOPY_PLUGIN_DIR_DEFAULT"),
    )
}

fn directories(
    variable: Option<OsString>,
    beside: Option<PathBuf>,
    default: Option<&str>,
) -> Vec<PathBuf> {
    let variable = variable.unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    let listed = variable
        .as_bytes()
        .split(|b| *b == b':')
        .map(OsStr::from_bytes);
    let all = listed
        .map(PathBuf::from)
        .chain(beside)
        .chain(default.map(PathBuf::from));
    for directory in all {
        if !directory.as_os_str().is_empty() && !found.contains(&directory) {
            found.push(directory);
        }
    }
    found
}

/// `xcopy/plugins` next to the shared object that holds this code. A program
/// that has the library linked in has none next to it but, installed as
/// `bin/NAME`, one in `lib`.
fn beside_library() -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    let here = beside_library as fn() -> Option<PathBuf> as *const c_void;
    // SAFETY: dladdr only compares the address, and fills the live info when it
    // answers non-zero; all zeroes is valid as well.
    let info = unsafe {
        match libc::dladdr(here, info.as_mut_ptr()) {
            0 => return beside_program(),
            _ => info.assume_init(),
        }
    };
    // SAFETY: takes no pointers.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    // The program's own headers lie in its first page.
    let in_program = headers.wrapping_sub(info.dli_fbase as usize) < 4096;
    if in_program || info.dli_fname.is_null() {
        return beside_program();
    }
    // SAFETY: the loader's NUL-terminated name of an object that stays loaded,
    // since it holds this code.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let file = PathBuf::from(OsString::from_vec(name.to_bytes().to_vec()));
    Some(file.canonicalize().ok()?.parent()?.join(BELOW))
}

fn beside_program() -> Option<PathBuf> {
    // The caller chooses where a link to a privileged program lies.
    if super::vet::is_secure() {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.parent()?.join("lib").join(BELOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "nvme", "null_threaded", "x9", &"a".repeat(31)] {
            assert!(is_name(good.as_bytes()), "{good}");
            assert_eq!(
                name_of_file(Path::new(&format!("/d/{}", file_name(good)))),
                Some(good)
            );
        }
        for bad in [
            "",
            "9a",
            "_a",
            "A",
            "a-b",
            "a.b",
            "a/b",
            "é",
            "a b",
            &"a".repeat(32),
        ] {
            assert!(!is_name(bad.as_bytes()), "{bad}");
            assert_eq!(name_of_file(Path::new(&file_name(bad))), None);
        }
        for bad in [
            "libxcopy.so",
            "libxcopy_.so",
            "libxcopy_a.so.1",
            "xcopy_a.so",
            "..",
            "/",
        ] {
            assert_eq!(name_of_file(Path::new(bad)), None);
        }
    }

    #[test]
    fn order_of_directories() {
        let found = directories(Some("/a::b:/a".into()), Some("/l/x".into()), Some("/d"));
        assert_eq!(found, ["/a", "b", "/l/x", "/d"].map(PathBuf::from));
        assert!(directories(None, None, None).is_empty());
    }

    #[test]
    fn not_found_says_where_it_looked() {
        let error =
            by_name("nosuch", &["/nonexistent/p".into(), "/etc/passwd".into()]).unwrap_err();
        assert_eq!(error.errno, libc::ENOENT);
        for part in [
            "libxcopy_nosuch.so",
            "/nonexistent/p, /etc/passwd",
            VARIABLE,
            "Install",
        ] {
            assert!(error.message.contains(part), "{error}");
        }
        assert_eq!(by_name("No", &[]).unwrap_err().errno, libc::EINVAL);
    }

    #[test]
    fn a_test_program_looks_in_lib() {
        assert!(beside_library().is_some_and(|path| path.ends_with("lib/xcopy/plugins")));
    }
}
