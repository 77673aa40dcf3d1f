//! What is copied, from where to where, by whom.

use super::content::{dense, islands, pieces};
use super::lists::List;
use super::options::Options;
use super::place::{Work, tool};
use crate::Failure;
use std::path::{Path, PathBuf};

const GIB: u64 = 1 << 30;
const SPARSE: u64 = 16 * GIB;

/// How a copy is compared.
pub enum Check {
    /// So many bytes from the start.
    Whole(u64),
    /// The ranges of a list, and that nothing else was written.
    List(List),
}

/// A command that copies.
pub struct Contestant {
    /// What the table calls it.
    pub name: String,
    /// Its command line.
    pub argv: Vec<String>,
    /// Whether it is the library.
    pub ours: bool,
}

/// A row of the table.
pub struct Row {
    /// Its short name.
    pub name: &'static str,
    /// What it is, in words.
    pub title: String,
    /// Bytes that are copied.
    pub bytes: u64,
    /// What is read.
    pub src: PathBuf,
    /// What is written.
    pub dst: PathBuf,
    /// The destination is a file that each run makes anew.
    pub is_new: bool,
    /// The source is not in the page cache.
    pub cold: bool,
    /// The copy is on the disk at the end of the time.
    pub durable: bool,
    /// How it is compared.
    pub check: Check,
    /// Who runs.
    pub contestants: Vec<Contestant>,
}

/// A row that can be made.
pub struct Make {
    /// Its short name.
    pub name: &'static str,
    /// Makes what it needs; an error says why it cannot run here.
    pub row: fn(&Work, &Options) -> Result<Row, Failure>,
}

macro_rules! rows {
    ($($name:literal: $row:expr;)*) => {
        /// All rows, in their order.
        pub const ALL: &[Make] = &[$(Make { name: $name, row: |work, options| {
            let row: fn(&Work, &Options, &'static str) -> Result<Row, Failure> = $row;
            row(work, options, $name)
        } }),*];
    };
}

rows! {
    "dense-warm": |work, options, name| on_disk(work, options, name, GIB, false, false);
    "dense-cold": |work, options, name| on_disk(work, options, name, GIB, true, false);
    "dense-warm-durable": |work, options, name| on_disk(work, options, name, GIB, false, true);
    "dense-cold-durable": |work, options, name| on_disk(work, options, name, GIB, true, true);
    "sparse-warm": |work, options, name| on_disk(work, options, name, SPARSE, false, false);
    "sparse-cold-durable": |work, options, name| on_disk(work, options, name, SPARSE, true, true);
    "ranges-memory": |work, options, name| ranges(work, options, name, List::large());
    "ranges-disk": |work, options, name| ranges(work, options, name, List::fewer());
    "ranges-tiny": |work, options, name| ranges(work, options, name, List::tiny());
    "reflink-xfs": |work, options, name| reflink(work, options, name, &["mkfs.xfs", "-q", "-f", "-m", "reflink=1"]);
    "reflink-btrfs": |work, options, name| reflink(work, options, name, &["mkfs.btrfs", "-q", "-f"]);
    "loop": |work, options, name| loops(work, options, name, false);
    "loop-durable": |work, options, name| loops(work, options, name, true);
    "tmpfs": memory;
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn contestant(name: &str, argv: &[&str], ours: bool) -> Contestant {
    Contestant {
        name: name.into(),
        argv: argv.iter().map(|arg| arg.to_string()).collect(),
        ours,
    }
}

/// The `xcopy` command and those peers that this machine has and the row can use.
fn commands(options: &Options, row: &Row) -> Vec<Contestant> {
    let (src, dst) = (&*text(&row.src), &*text(&row.dst));
    let xcopy = text(&options.build.join("bin/xcopy"));
    let mut ours = vec![&*xcopy, "copy", "--quiet"];
    if row.durable {
        ours.push("--durable");
    }
    ours.extend([src, dst]);
    let (of, input) = (format!("of={dst}"), format!("if={src}"));
    let dd = [
        "dd",
        &*input,
        &*of,
        "bs=1M",
        "iflag=direct",
        "oflag=direct",
        "status=none",
    ];
    let nodes: &[&str] = if row.is_new { &[] } else { &["-n"] };
    let image = |more: &[&'static str]| -> Vec<String> {
        let fixed = [
            "qemu-img", "convert", "-m", "16", "-W", "-f", "raw", "-O", "raw",
        ];
        let all = fixed.iter().chain(nodes).chain(more);
        all.map(|arg| arg.to_string())
            .chain([src.into(), dst.into()])
            .collect()
    };
    let mut all = vec![
        contestant("xcopy", &ours, true),
        contestant(
            "cp --reflink=never",
            &["cp", "--reflink=never", src, dst],
            false,
        ),
    ];
    if row.is_new {
        all.push(contestant("cp", &["cp", src, dst], false));
    }
    // It has no idea of holes, nor a way past the cache of a file in memory.
    if row.name != "tmpfs" && !row.name.starts_with("sparse") {
        all.push(contestant("dd direct", &dd, false));
    }
    let direct = ["-t", "none", "-T", "none"];
    for (name, more) in [("qemu-img", &[][..]), ("qemu-img direct", &direct)] {
        let past_the_cache = !more.is_empty();
        if tool("qemu-img", &["--version"]).is_ok() && !(past_the_cache && row.name == "tmpfs") {
            all.push(Contestant {
                name: name.into(),
                argv: image(more),
                ours: false,
            });
        }
    }
    let own = text(&options.out.join("tools/bin/xcp"));
    let xcp = ["xcp", &*own]
        .into_iter()
        .find(|xcp| tool(xcp, &["--version"]).is_ok());
    if let Some(xcp) = xcp.filter(|_| row.is_new) {
        all.push(contestant("xcp", &[xcp, "--no-progress", src, dst], false));
    }
    all
}

fn row(name: &'static str, title: String, dir: &Path, bytes: u64) -> Row {
    Row {
        name,
        title,
        bytes,
        src: dir.join("src"),
        dst: dir.join("dst"),
        is_new: true,
        cold: false,
        durable: false,
        check: Check::Whole(bytes),
        contestants: Vec::new(),
    }
}

fn finish(options: &Options, mut row: Row) -> Result<Row, Failure> {
    row.contestants = commands(options, &row);
    Ok(row)
}

fn system_of(dir: &Path) -> Result<String, Failure> {
    tool("stat", &["-f", "-c", "%T", &text(dir)])
}

fn on_disk(
    work: &Work,
    options: &Options,
    name: &'static str,
    bytes: u64,
    cold: bool,
    durable: bool,
) -> Result<Row, Failure> {
    let dir = work.disk()?;
    let system = system_of(&dir)?;
    let what = if bytes == SPARSE {
        "16 GiB, 5 % data in islands of 64 KiB"
    } else {
        "1 GiB"
    };
    let title = format!(
        "{what}, {system}, {} source{}",
        if cold { "cold" } else { "warm" },
        if durable { ", durable" } else { "" }
    );
    let row = Row {
        cold,
        durable,
        ..row(name, title, &dir, bytes)
    };
    match bytes {
        SPARSE => pieces(&row.src, bytes, islands(bytes, 5))?,
        _ => dense(&row.src, bytes)?,
    }
    finish(options, row)
}

fn memory(work: &Work, options: &Options, name: &'static str) -> Result<Row, Failure> {
    let dir = work.memory(3 * GIB)?;
    let row = row(name, "1 GiB, tmpfs".into(), &dir, GIB);
    dense(&row.src, GIB)?;
    finish(options, row)
}

fn reflink(
    work: &Work,
    options: &Options,
    name: &'static str,
    mkfs: &[&str],
) -> Result<Row, Failure> {
    let dir = work.image(mkfs, 3 * GIB)?;
    let title = format!(
        "1 GiB, {} that shares blocks",
        mkfs[0].trim_start_matches("mkfs.")
    );
    let row = row(name, title, &dir, GIB);
    dense(&row.src, GIB)?;
    finish(options, row)
}

fn loops(
    work: &Work,
    options: &Options,
    name: &'static str,
    durable: bool,
) -> Result<Row, Failure> {
    let title = format!(
        "1 GiB, disk to disk (loop){}",
        if durable { ", durable" } else { "" }
    );
    let row = Row {
        src: work.loop_device("src", GIB)?,
        dst: work.loop_device("dst", GIB)?,
        is_new: false,
        cold: true,
        durable,
        ..row(name, title, Path::new(""), GIB)
    };
    dense(&row.src, GIB)?;
    finish(options, row)
}

fn ranges(work: &Work, options: &Options, name: &'static str, list: List) -> Result<Row, Failure> {
    let dir = match name {
        "ranges-disk" => work.disk()?,
        _ => work.memory(8 * GIB)?,
    };
    let what = format!("{}, {}", list.title(), system_of(&dir)?);
    let row = Row {
        bytes: list.bytes(),
        ..row(name, what, &dir, list.end())
    };
    pieces(&row.src, list.end(), list.places())?;
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let own = text(&program);
    let (src, dst, build) = (&*text(&row.src), &*text(&row.dst), &*text(&options.build));
    let child = |name: &str, how: &str, ours| {
        let argv = [&*own, "files", "--child", how, list.name(), build, src, dst];
        contestant(name, &argv, ours)
    };
    let contestants = vec![
        child("xcopy", "library", true),
        child("pread and pwrite", "loop", false),
        child("copy_file_range", "copy_file_range", false),
    ];
    Ok(Row {
        contestants,
        check: Check::List(list),
        ..row
    })
}
