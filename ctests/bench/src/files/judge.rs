//! Medians, who is behind, the table and JSON.

use super::options::Options;
use super::race::{Runs, Sample};
use super::rows::Row;
use crate::Failure;
use serde_json::{Value, json};
use std::path::Path;

/// Never behind: a ratio of medians of at most this.
const BEHIND: f64 = 1.05;
/// Seconds that are no copy: starting a process, its threads and its plugins.
const START: f64 = 0.010;
/// The processor's time is compared with peers that are this near to the best.
const NEAR: f64 = 1.10;

/// Minimum, quartiles and maximum of one figure.
#[derive(Clone, Copy)]
pub struct Spread(pub [f64; 5]);

impl Spread {
    fn new(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Spread {
        let mut values: Vec<f64> = samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * values.len().saturating_sub(1) as f64;
            let get = |at: f64| values.get(at as usize).copied().unwrap_or(f64::NAN);
            let (below, above) = (get(place.floor()), get(place.ceil()));
            below + (above - below) * place.fract()
        };
        Spread([at(0.0), at(0.25), at(0.5), at(0.75), at(1.0)])
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.0[2]
    }
}

/// What one contestant did.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is the library.
    pub ours: bool,
    /// Seconds on the wall.
    pub wall: Spread,
    /// Seconds of the processor.
    pub cpu: Spread,
    /// Peak memory of all runs, in bytes.
    pub memory: u64,
    /// Bytes of data where the source has holes.
    pub filled: u64,
    /// What was wrong.
    pub wrong: Option<Failure>,
    /// How often it ran.
    pub runs: usize,
}

/// What came of a row.
pub struct Result {
    /// Its short name.
    pub name: &'static str,
    /// What it is.
    pub title: String,
    /// Bytes that are copied.
    pub bytes: u64,
    /// All contestants, the library first.
    pub entries: Vec<Entry>,
}

impl Result {
    /// Sums up the runs of a row.
    pub fn new(row: &Row, runs: Vec<Runs>) -> Result {
        let entry = |(contestant, runs): (&super::rows::Contestant, Runs)| Entry {
            name: contestant.name.clone(),
            ours: contestant.ours,
            wall: Spread::new(&runs.samples, |sample| sample.wall),
            cpu: Spread::new(&runs.samples, |sample| sample.cpu),
            memory: runs
                .samples
                .iter()
                .map(|sample| sample.memory)
                .max()
                .unwrap_or(0),
            filled: runs.filled,
            runs: runs.samples.len(),
            wrong: runs.wrong,
        };
        Result {
            name: row.name,
            title: row.title.clone(),
            bytes: row.bytes,
            entries: row.contestants.iter().zip(runs).map(entry).collect(),
        }
    }

    fn ours(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.ours)
    }

    /// Peers whose copies were right.
    fn peers(&self) -> impl Iterator<Item = &Entry> {
        let right = |entry: &&Entry| !entry.ours && entry.wrong.is_none() && entry.runs > 0;
        self.entries.iter().filter(right)
    }

    fn best_peer(&self) -> Option<&Entry> {
        let by = |a: &&Entry, b: &&Entry| a.wall.median().total_cmp(&b.wall.median());
        self.peers().min_by(by)
    }

    /// Our median time over the best peer's.
    pub fn wall_ratio(&self) -> Option<f64> {
        Some(self.ours()?.wall.median() / self.best_peer()?.wall.median())
    }

    /// Our median time of the processor over that of the leanest peer which is
    /// near the best time; None if no peer is.
    pub fn cpu_ratio(&self) -> Option<f64> {
        let ours = self.ours()?;
        let best = self.best_peer()?.wall.median().min(ours.wall.median());
        let near = self
            .peers()
            .filter(|peer| peer.wall.median() <= best * NEAR);
        let leanest = near.map(|peer| peer.cpu.median()).min_by(f64::total_cmp)?;
        Some(ours.cpu.median() / leanest)
    }

    /// What is wrong with the library here, in words.
    fn faults(&self) -> Vec<String> {
        let Some(ours) = self.ours() else {
            return Vec::new();
        };
        let mut faults = Vec::new();
        if let Some(why) = &ours.wrong {
            faults.push(format!("WRONG: {why}"));
        }
        if ours.filled > 0 {
            faults.push(format!("{} bytes of holes were filled", ours.filled));
        }
        // `ours` over the ratio is the peer's figure.
        let over = |ratio: Option<f64>, ours: f64| {
            ratio.filter(|ratio| *ratio > BEHIND && ours - ours / ratio > START)
        };
        let wall = over(self.wall_ratio(), ours.wall.median());
        if let (Some(ratio), Some(best)) = (wall, self.best_peer()) {
            faults.push(format!("BEHIND {}: {ratio:.2} times its time", best.name));
        }
        if let Some(ratio) = over(self.cpu_ratio(), ours.cpu.median()) {
            faults.push(format!(
                "more processor: {ratio:.2} times the leanest peer's"
            ));
        }
        faults
    }

    /// Prints the row.
    pub fn print(&self) {
        println!("\n{}: {}", self.name, self.title);
        println!(
            "  {:<20} {:>9}  {:<17} {:>6} {:>8} {:>9} {:>11}",
            "", "median s", "(quartiles)", "GB/s", "cpu s", "peak MiB", "filled KiB"
        );
        for entry in &self.entries {
            if let Some(why) = &entry.wrong {
                println!(
                    "  {:<20} left out: {}",
                    entry.name,
                    why.lines().next().unwrap_or("")
                );
                continue;
            }
            let [_, low, median, high, _] = entry.wall.0;
            println!(
                "  {:<20} {median:>9.3}  {:<17} {:>6.2} {:>8.3} {:>9.1} {:>11}",
                entry.name,
                format!("({low:.3}–{high:.3})"),
                self.bytes as f64 / median / 1e9,
                entry.cpu.median(),
                entry.memory as f64 / 1_048_576.0,
                entry.filled / 1024,
            );
        }
        let ratio = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
        let best = self.best_peer().map_or("none", |best| &best.name);
        println!(
            "  time {} of the best peer's ({best}), processor {} of the leanest near it",
            ratio(self.wall_ratio()),
            ratio(self.cpu_ratio())
        );
        for fault in self.faults() {
            println!("  {fault}");
        }
    }

    fn json(&self) -> Value {
        let entry = |entry: &Entry| {
            json!({
                "name": entry.name,
                "ours": entry.ours,
                "runs": entry.runs,
                "wall_seconds": entry.wall.0,
                "cpu_seconds": entry.cpu.0,
                "peak_bytes": entry.memory,
                "filled_bytes": entry.filled,
                "wrong": entry.wrong,
            })
        };
        json!({
            "name": self.name,
            "title": self.title,
            "bytes": self.bytes,
            "entries": self.entries.iter().map(entry).collect::<Vec<_>>(),
            "wall_ratio": self.wall_ratio(),
            "cpu_ratio": self.cpu_ratio(),
            "faults": self.faults(),
        })
    }
}

/// Writes all figures; times are minimum, quartiles and maximum.
pub fn write_json(
    path: &Path,
    results: &[Result],
    options: &Options,
) -> std::result::Result<(), Failure> {
    let rows: Vec<Value> = results.iter().map(Result::json).collect();
    let text = json!({ "runs": options.runs, "rows": rows });
    let text = serde_json::to_string_pretty(&text).map_err(|e| e.to_string())?;
    std::fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))
}

/// The last lines. True if the library is behind nowhere.
pub fn conclude(results: &[Result]) -> bool {
    let with_fault = |result: &&Result| !result.faults().is_empty();
    let bad: Vec<&Result> = results.iter().filter(with_fault).collect();
    println!("{} rows, {} with a fault", results.len(), bad.len());
    for result in &bad {
        println!("  {}: {}", result.name, result.faults().join("; "));
    }
    bad.is_empty()
}
