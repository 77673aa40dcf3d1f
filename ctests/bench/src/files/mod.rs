//! What copies of files and disks cost, beside the tools that an operator would
//! take: every contestant of a row in one interleaved run, its bytes compared.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the rows one after the other |
//! | `options.rs` | the command line |
//! | `rows.rs` | what is copied, from where to where, by whom |
//! | `place.rs` | file systems and disks made for the run |
//! | `content.rs` | sources, and what came of them |
//! | `race.rs` | the interleave; time, processor and memory of one run |
//! | `lists.rs` | many ranges: by the library and by plain loops |
//! | `judge.rs` | medians, who is behind, the table, JSON |
//! | `plot.rs` | a picture of each row |

mod content;
mod judge;
mod lists;
mod options;
mod place;
mod plot;
mod race;
mod rows;

use crate::Failure;
use options::Options;
use std::time::Instant;

/// Runs the rows. False if `--check` was given and something is behind or wrong.
pub fn main(args: Vec<String>) -> Result<bool, Failure> {
    if args.first().is_some_and(|first| first == "--child") {
        return lists::child(&args[1..]).map(|()| true);
    }
    let options = match Options::parse(args.into_iter())? {
        Some(options) => options,
        None => {
            print!("{}", options::USAGE);
            return Ok(true);
        }
    };
    let started = Instant::now();
    let work = place::Work::new(&options.dir)?;
    let mut results = Vec::new();
    for make in rows::ALL {
        if !make.name.contains(&options.only) {
            continue;
        }
        if started.elapsed() > options.limit {
            println!("SKIP {}: no time left; --only names rows", make.name);
            continue;
        }
        match (make.row)(&work, &options) {
            Ok(row) => {
                let result = judge::Result::new(&row, race::run(&row, &options)?);
                result.print();
                results.push(result);
            }
            Err(why) => println!("SKIP {}: {why}", make.name),
        }
        work.clear()?;
    }
    if "planning".contains(&options.only) {
        lists::planning(&options)?;
    }
    drop(work);
    std::fs::create_dir_all(&options.out).map_err(|e| e.to_string())?;
    judge::write_json(&options.out.join("files.json"), &results, &options)?;
    for result in &results {
        plot::row(&options.out, result)?;
    }
    println!(
        "written: {}, and a picture of each row; {} s",
        options.out.join("files.json").display(),
        started.elapsed().as_secs()
    );
    Ok(judge::conclude(&results) || !options.check)
}
